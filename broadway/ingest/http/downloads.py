"""Files of students as responses: attachments that no browser shows or runs, with ranges and entity tags."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from broadway.domain.files import PART
from broadway.ingest.http.answers import CORS, Refused
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.visit import visit_of

# A student's file must have no effect in the browser of its reader.
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-cache",
}
FILE_NOT_STORED = "this file is not stored any more"
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


@dataclass(frozen=True, slots=True)
class _Part:
    """The bytes of a file from ``start`` to before ``end``."""

    start: int
    end: int


def attachment(
    request: Request,
    *,
    name: str,
    size: int,
    tag: str,
    content: Callable[[int, int], AsyncIterator[bytes]],
    media_type: str = "application/octet-stream",
    more: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """Return a file as a response: all of it, or the range that the request asks for; 304 if the client has it.

    Args:
        request: The request.
        name: The file's name for the client.
        size: Its bytes.
        tag: Its entity tag, without quotes.
        content: Yields its bytes from a start to before an end.
        media_type: Its type, with its charset.
        more: Further headers of the answer.

    Raises:
        Refused: 416, the range is outside of the file.
        LimitError: Other clients read so many files that there is no memory for one more.
    """
    headers = {**_headers(name), **more, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
    if _has(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    part = _range(request, size, tag)
    hold(request, min(size, PART))
    if part is None:
        headers["Content-Length"] = str(size)
        return StreamingResponse(content(0, size), headers=headers, media_type=media_type)
    headers["Content-Length"] = str(part.end - part.start)
    headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size}"
    return StreamingResponse(content(part.start, part.end), 206, headers, media_type=media_type)


async def stored_file(request: Request, deps: Deps, *, name: str, size: int, sha256: str) -> Response:
    """Return a stored content as ``attachment`` does, with its digest as the entity tag.

    Raises:
        Refused: 404, the content is not stored; 416, the range is outside of it.
        LimitError: As for ``attachment``.
    """
    if not await deps.reads.submissions.is_stored(sha256):  # before the answer begins
        raise Refused(404, FILE_NOT_STORED)

    def content(start: int, end: int) -> AsyncIterator[bytes]:
        return deps.reads.submissions.content(sha256, start=start, end=end)

    return attachment(request, name=name, size=size, tag=sha256, content=content)


def streamed(request: Request, *, name: str, media_type: str, content: AsyncIterator[bytes]) -> Response:
    """Return an attachment of unknown size, such as an archive that is made while it is sent.

    Raises:
        LimitError: Other clients read so many files that there is no memory for one more.
    """
    hold(request, PART)
    return StreamingResponse(content, headers=_headers(name), media_type=media_type)


def made(request: Request, data: bytes, *, name: str, media_type: str, more: Mapping[str, str]) -> Response:
    """Return an attachment that was made for this request, with further headers.

    Raises:
        LimitError: Other clients read so many files that there is no memory for one more.
    """
    hold(request, len(data))
    return Response(data, headers={**_headers(name), **more}, media_type=media_type)


def hold(request: Request, size: int) -> None:
    """Count the bytes that an answer holds until its client has read it: a part, and its copy for the connection.

    Raises:
        LimitError: Other clients read so many files that there is no memory for one more.
    """
    visit_of(request).memory.take(2 * size)


def _headers(name: str) -> dict[str, str]:
    return {**CORS, **SAFE, "Content-Disposition": _disposition(name)}


def _disposition(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _has(header: str | None, tag: str) -> bool:
    """Return whether an If-None-Match header names a tag."""
    return header is not None and (header.strip() == "*" or f'"{tag}"' in header.split(",")[0:50])


def _range(request: Request, size: int, tag: str) -> _Part | None:
    """Return the range that a request asks for, or None for the whole file; several ranges are answered by the whole.

    Raises:
        Refused: 416, the range is outside of the file.
    """
    if request.headers.get("if-range", f'"{tag}"') != f'"{tag}"':
        return None
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), min(size, int(last) + 1) if last else size
    else:
        start, end = max(0, size - int(last)), size
    if start >= end:
        refusal = Refused(416, f"Range: the file has {size} bytes")
        refusal.headers["Content-Range"] = f"bytes */{size}"
        raise refusal
    return _Part(start, end)

"""Reading request bodies: JSON that the store can hold, or a clear refusal before any change."""

import asyncio
import math
from collections.abc import AsyncIterator
from email.message import Message
from functools import partial

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from broadway.domain.json_bodies import Body, check, parse, shorten
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.visit import visit_of

BODY_WITHIN = 120.0  # seconds
LARGE = 256 * 1024  # bytes; larger bodies are parsed in a thread, since they would block the event loop for too long
MAX_KEY = 255  # characters of an idempotency key

_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


class Nothing(BaseModel):
    """An empty object, or an empty body."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BodyTooSlowError(ValueError):
    """The body did not arrive before the server's timeout."""


class BodyTooLargeError(ValueError):
    """The body is larger than the server allows."""


class UnsupportedBodyError(ValueError):
    """The body has an encoding or a charset that the server does not read."""


async def read(request: Request, expected: type[Body], *, limit: int, optional: bool = False) -> Body:
    """Read a request's body, of ``limit`` bytes at most; one that is ``optional`` may be empty.

    v1 ignores the body's encoding and charset, and takes the last of equal keys, as the original does.

    Raises:
        UnsupportedBodyError: As ``check_encoding``, except in v1.
        BodyTooLargeError: The body has more than ``limit`` bytes; the rest is not read.
        BodyTooSlowError: The body did not arrive within ``BODY_WITHIN``.
        InvalidBodyError: As ``parse``.
    """
    is_v1 = request.url.path.startswith("/api/v1/")
    if not is_v1:
        check_encoding(request)
    body = await raw_body(request, limit=limit)
    request.state.given = body  # for the audit log
    if optional and not body:
        return check({}, expected)
    read_it = partial(parse, body, expected, unique=not is_v1)
    return read_it() if len(body) < LARGE else await asyncio.to_thread(read_it)  # others are served meanwhile


def check_encoding(request: Request) -> None:
    """Return if a request's body is plain UTF-8 by its headers.

    Raises:
        UnsupportedBodyError: It is compressed, or in another charset.
    """
    _check_coding(request)
    media_type = Message()
    media_type["content-type"] = request.headers.get("content-type", "")
    charset = str(media_type.get_param("charset", "utf-8")).lower()
    if charset not in _CHARSETS:
        raise UnsupportedBodyError(f"Content-Type: the charset {shorten(charset)} is not read: send UTF-8")


def _check_coding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedBodyError(f"Content-Encoding: {shorten(encoding)}: send the body as it is, without encoding")


async def read_file(request: Request, *, limit: int) -> bytes:
    """Return a file that is a request's body, of ``limit`` bytes at most, in whatever charset.

    Raises:
        UnsupportedBodyError: It is compressed, or a part of a form.
        BodyTooLargeError: As for ``raw_body``, and so are other errors.
    """
    _check_coding(request)
    if request.headers.get("content-type", "").strip().lower().startswith("multipart/"):
        raise UnsupportedBodyError("Content-Type: expected the file itself as the body, not a form")
    body = await raw_body(request, limit=limit)
    request.state.given = body  # for the audit log
    return body


def given_body(request: Request) -> bytes:
    """Return the body that the handler has read, or an empty one."""
    body: bytes = getattr(request.state, "given", b"")
    return body


async def raw_body(request: Request, *, limit: int) -> bytes:
    """Return a request's raw body.

    Raises:
        BodyTooLargeError: The body has more than ``limit`` bytes; the rest is not read.
        BodyTooSlowError: The body did not arrive within ``BODY_WITHIN``.
        LimitError: The memory for bodies is used up.
    """
    body, visit = bytearray(), visit_of(request)
    async for piece in pieces(request, limit=limit):
        visit.memory.take(len(piece))
        body += piece
    return bytes(body)


async def pieces(request: Request, *, limit: int, pace: float = math.inf) -> AsyncIterator[bytes]:
    """Yield the pieces of a request's body as they arrive.

    Args:
        request: The request.
        limit: The most bytes of the body.
        pace: Bytes that have a second more to arrive, for bodies that slow connections need longer to send.

    Raises:
        BodyTooLargeError: The body has more than ``limit`` bytes; the rest is not read.
        BodyTooSlowError: The body did not arrive within ``BODY_WITHIN``, besides what ``pace`` adds.
    """
    size, begun = 0, asyncio.get_running_loop().time()
    stream = aiter(request.stream())
    while True:
        within = BODY_WITHIN + size / pace
        try:
            async with asyncio.timeout_at(begun + within):
                piece = await anext(stream, None)
        except TimeoutError as error:
            raise BodyTooSlowError(f"the request body did not come within {within:.0f} s") from error
        if piece is None:
            return
        size += len(piece)
        if size > limit:
            raise BodyTooLargeError(f"the request body is too large: {limit} bytes are allowed")
        yield piece


def idempotency_key(request: Request) -> str | None:
    """Return the client's key, or None. RFC 8941 requires quotes around it, which few clients send.

    Raises:
        Refused: 400, the key is empty or too long.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    key = key.strip().removeprefix('"').removesuffix('"')
    if not 0 < len(key) <= MAX_KEY:
        raise Refused(400, f"Idempotency-Key: should have 1 to {MAX_KEY} characters")
    return key

"""Uploaded files, which are spooled to disk and hashed while they arrive; no body is ever in memory."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from tempfile import TemporaryFile

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from broadway.domain.files import MAX_PATH, FileRefusedError, shown
from broadway.domain.json_bodies import InvalidBodyError
from broadway.ingest.commands.upload import GivenFile
from broadway.ingest.http.bodies import UnsupportedBodyError, pieces
from broadway.ingest.http.spool import SpoolError
from broadway.ingest.http.visit import visit_of

MULTIPART = "multipart/form-data"
ARCHIVES = {"application/zip": "submission.zip", "application/gzip": "submission.tar.gz"}
OVERHEAD = 4096  # bytes of a form besides its files, for each file
PACE = 32 * 1024  # bytes per second: a slow student's connection needs ten minutes for the largest upload
MAX_FIELDS = 20  # parts of a form that are not files
MAX_FIELD = 4096  # bytes of such a part
MAX_BOUNDARY = 70  # characters, by RFC 2046


@dataclass(slots=True)
class _Arriving:
    """A file that is arriving."""

    name: str
    offset: int
    size: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)


@contextlib.asynccontextmanager
async def uploaded(
    request: Request, directory: Path, *, limit: int, files: int, fields: dict[str, str] | None = None
) -> AsyncIterator[Sequence[GivenFile]]:
    """Read a request's body: a form with files, or one archive; keep the files until the end of the context.

    Args:
        request: The request.
        directory: The place of the spool. Its files have no names, so that nothing stays after a crash.
        limit: The most bytes of all files together.
        files: The most files of a form.
        fields: Gets the form's other fields.

    Raises:
        UnsupportedBodyError: The body is of another type.
        InvalidBodyError: The form is malformed, or has no file.
        FileRefusedError: There are too many files, or one has a name that is too long.
        BodyTooLargeError: The body is too large; the rest is not read.
        BodyTooSlowError: The body did not arrive in time.
        LimitError: The spool has no room.
        SpoolError: The spool's directory takes no data.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    with _opened(directory) as file:
        spool = _Spool(file)
        if (archive := ARCHIVES.get(kind.decode("latin-1"))) is not None:
            spool.begin(archive)
            async for piece in pieces(request, limit=limit, pace=PACE):
                spool.take(piece)
                await _write(request, spool)
        elif kind.decode("latin-1") == MULTIPART:
            form = _Form(spool, _boundary(options), files)
            async for piece in pieces(request, limit=limit + OVERHEAD * (files + MAX_FIELDS), pace=PACE):
                form.feed(piece)
                await _write(request, spool)
            form.finish()
            if fields is not None:
                fields |= form.fields()
        else:
            expected = ", ".join((MULTIPART, *ARCHIVES))
            raise UnsupportedBodyError(f"Content-Type: expected one of {expected}")
        if spool.size > limit:
            raise FileRefusedError(f"the files have {spool.size} bytes; a submission may have {limit}")
        yield spool.given()
    visit_of(request).spool.release()


async def _write(request: Request, spool: "_Spool") -> None:
    if waiting := spool.waiting():
        visit_of(request).spool.take(len(waiting))
        with _spooling():
            await asyncio.to_thread(_write_all, spool.file, waiting)


@contextlib.contextmanager
def _spooling() -> Iterator[None]:
    """Turn the errors of the spool's disk into those of the spool."""
    try:
        yield
    except OSError as error:
        raise SpoolError(error.errno, error.strerror) from error


def _opened(directory: Path) -> FileIO:
    """Open a file of the spool, without a buffer, whose last bytes a full disk could refuse after the answer."""
    with _spooling():
        return TemporaryFile(dir=directory, buffering=0)


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _boundary(options: dict[bytes, bytes]) -> bytes:
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise InvalidBodyError("Content-Type: multipart/form-data needs a boundary")
    return boundary


class _Spool:
    """The contents of all files of a request, one after another in one file."""

    def __init__(self, file: FileIO) -> None:
        self.file = file
        self.size = 0
        self._arriving: list[_Arriving] = []
        self._waiting: list[bytes] = []

    def begin(self, name: str) -> None:
        """Begin a file."""
        self._arriving.append(_Arriving(name, self.size))

    def take(self, data: bytes) -> None:
        """Add to the file that was begun last."""
        last = self._arriving[-1]
        last.digest.update(data)
        last.size += len(data)
        self.size += len(data)
        self._waiting.append(data)

    def waiting(self) -> bytes:
        """Return the bytes that are not written yet, once."""
        waiting, self._waiting = b"".join(self._waiting), []
        return waiting

    def given(self) -> list[GivenFile]:
        """Return the files, after all is written."""
        return [
            GivenFile(each.name, each.digest.hexdigest(), each.size, self.file, each.offset) for each in self._arriving
        ]


class _Form:
    """A form that is arriving. Of a part without a file name the first ``MAX_FIELD`` bytes are kept."""

    def __init__(self, spool: _Spool, boundary: bytes, most: int) -> None:
        self._spool = spool
        self._left = most
        self._fields = MAX_FIELDS
        self._texts: dict[str, bytearray] = {}
        self._text = bytearray()
        self._header: tuple[bytes, bytes] = (b"", b"")
        self._disposition = b""
        self._is_file = False
        self._has_file = False
        self._is_over = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    def feed(self, piece: bytes) -> None:
        """Read a piece of the form.

        Raises:
            InvalidBodyError: The form is malformed, or has too many parts.
            FileRefusedError: A file is refused.
        """
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise InvalidBodyError(f"the form is malformed: {error}") from error

    def finish(self) -> None:
        """Return if the form has arrived as a whole.

        Raises:
            InvalidBodyError: It has not, or it has no file.
        """
        if not self._is_over:
            raise InvalidBodyError("the form is not complete: its last boundary is missing")
        if not self._has_file:
            raise InvalidBodyError("the form has no file; expected parts with a file name")

    def fields(self) -> dict[str, str]:
        """Return the parts without a file by their names."""
        return {name: bytes(text).decode("utf-8", "replace") for name, text in self._texts.items()}

    def _on_part_begin(self) -> None:
        self._header, self._disposition, self._is_file = (b"", b""), b"", False

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], self._header[1])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _on_header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = (b"", b"")

    def _on_headers_finished(self) -> None:
        name = _file_name(self._disposition)
        if name is None:
            self._fields -= 1
            if self._fields < 0:
                raise InvalidBodyError(f"the form has more than {MAX_FIELDS} parts without a file")
            self._text = self._texts[_field_name(self._disposition)] = bytearray()
            return
        self._left -= 1
        if self._left < 0:
            raise FileRefusedError(f"{shown(name)}: there are too many files in this submission")
        if len(name.encode("utf-8", "surrogatepass")) > MAX_PATH:
            raise FileRefusedError(f"{shown(name)}: the path is too long: {MAX_PATH} bytes are allowed")
        self._is_file = self._has_file = True
        self._spool.begin(name)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._spool.take(data[start:end])
        else:
            self._text += data[start : min(end, start + MAX_FIELD - len(self._text))]

    def _on_end(self) -> None:
        self._is_over = True


def _field_name(disposition: bytes) -> str:
    return parse_options_header(disposition)[1].get(b"name", b"")[:MAX_BOUNDARY].decode("utf-8", "replace")


def _file_name(disposition: bytes) -> str | None:
    """Return the file name of a part, or None; a browser sends an empty one for a field without a chosen file."""
    _, options = parse_options_header(disposition)
    name = options.get(b"filename")
    if not name:
        return None
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidBodyError("a file name in the form is not UTF-8") from error

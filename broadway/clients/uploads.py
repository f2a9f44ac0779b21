"""Files on their way to the server: opened one at a time, with names that arrive as they are."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from broadway.session import ClientError

Part = tuple[str, tuple[str, IO[bytes]]]


@contextmanager
def form_of(files: Sequence[tuple[str, Path]]) -> Iterator[list[Part]]:
    """Yield the parts of a form with files, by the name of each file; close all files at the end.

    Raises:
        ClientError: A file cannot be read, or a form cannot carry its name.
    """
    for name, _ in files:
        _check(name)
    uploads = [_Upload(path) for _, path in files]
    try:
        yield [("files", (name, cast("IO[bytes]", upload))) for (name, _), upload in zip(files, uploads, strict=True)]
    finally:
        for upload in uploads:
            upload.close()


def _check(name: str) -> None:
    """Return for a name that a form carries unchanged; in a form, quotes and control characters become others."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ClientError(f"{name!r}: the name is not UTF-8; rename the file") from None
    if any(each < " " or each in '"\\\x7f' for each in name):
        raise ClientError(f"{name!r}: a name with control characters, quotes or backslashes; rename the file")


class _Upload:
    """A file that is open only while it is read, since a submission may have more files than a process may open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._size = os.fstat(self._open().fileno()).st_size
        self.close()

    def read(self, size: int = -1) -> bytes:
        data = self._open().read(size)
        if not data:
            self.close()
        return data

    def tell(self) -> int:
        return self._file.tell() if self._file else 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek the beginning or the end: the HTTP library does so before it reads, and for the length."""
        if whence == os.SEEK_END:
            return self._size
        return self._file.seek(offset) if self._file else 0

    def close(self) -> None:
        if self._file:
            self._file.close()
        self._file = None

    def _open(self) -> IO[bytes]:
        try:
            self._file = self._file or self._path.open("rb")
        except OSError as error:
            raise ClientError(f"{self._path}: {error.strerror}") from error
        return self._file

"""The files of a backup: the documents of a collection as BSON, one after another, in gzip."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

from broadway.backup.manifest import BackupError, Part

SUFFIX = ".bson.gz"
LEVEL = 3  # of compression
HEAD = 4  # bytes of a document's length, which counts them
SMALLEST, LARGEST = 5, 17 * 2**20  # bytes of a document
MOST, MOST_BYTES = 500, 8 * 2**20  # documents and bytes of a batch


def file_of(place: str) -> str:
    """Return the name of the file of a collection."""
    return quote(place.replace("/", ".", 1), safe="") + SUFFIX


class PartWriter:
    """Writes the documents of a collection to a new file that only its owner can read."""

    def __init__(self, place: str, directory: Path) -> None:
        self._place = place
        self._path = directory / file_of(place)
        self._file: IO[bytes] = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._gzip = gzip.GzipFile("", "wb", LEVEL, self._file, mtime=0)
        self._documents = self._bytes = 0

    def write(self, batch: bytes) -> None:
        """Add documents."""
        self._documents += sum(1 for _ in _split(batch))
        self._bytes += len(batch)
        self._gzip.write(batch)

    def close(self) -> Part:
        """Make the file durable; return its description."""
        self._gzip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return Part(
            place=self._place, documents=self._documents, bytes=self._bytes, sha256=_digest(self._path, self._place)
        )

    def abandon(self) -> None:
        """Close the file of a backup that will not be whole."""
        self._file.close()


def check(directory: Path, part: Part) -> None:
    """Return if the file of a part is the one that was written.

    Raises:
        BackupError: It is missing or has changed.
    """
    if _digest(directory / file_of(part.place), part.place) != part.sha256:
        raise BackupError(f"{file_of(part.place)}: its SHA-256 differs; the backup is damaged, use another one")


def read(directory: Path, part: Part) -> Iterator[list[bytes]]:
    """Yield the documents of a part, some at a time.

    Raises:
        BackupError: The file is damaged.
    """
    name = file_of(part.place)
    try:
        with gzip.open(directory / name, "rb") as file:
            batch, size, total, count = list[bytes](), 0, 0, 0
            while document := _next(file, name):
                if batch and (len(batch) == MOST or size + len(document) > MOST_BYTES):
                    yield batch
                    batch, size = [], 0
                batch.append(document)
                size, total, count = size + len(document), total + len(document), count + 1
                if total > part.bytes:
                    break
            if batch:
                yield batch
    except (OSError, EOFError, zlib.error) as error:
        raise BackupError(f"{name}: {error}; the backup is damaged, use another one") from error
    if (count, total) != (part.documents, part.bytes):
        expected = f"expected {part.documents} documents of {part.bytes} bytes, found {count} of {total}"
        raise BackupError(f"{name}: {expected}; the backup is damaged, use another one")


def _next(file: gzip.GzipFile, name: str) -> bytes | None:
    head = file.read(HEAD)
    if not head:
        return None
    length = int.from_bytes(head, "little", signed=True)
    rest = file.read(length - HEAD) if SMALLEST <= length <= LARGEST else b""
    if len(head) < HEAD or len(rest) != length - HEAD:
        raise BackupError(f"{name}: a document is cut off; the backup is damaged, use another one")
    return head + rest


def _split(batch: bytes) -> Iterator[bytes]:
    """Yield the documents of a batch."""
    start = 0
    while start < len(batch):
        end = start + int.from_bytes(batch[start : start + HEAD], "little", signed=True)
        yield batch[start:end]
        start = end


def _digest(path: Path, place: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackupError(f"the file of {place}: {path}: {error.strerror}") from error

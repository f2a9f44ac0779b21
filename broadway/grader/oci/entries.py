"""The entries of a layer's archive, whose headers cost a bounded amount of memory and time."""

import re
import tarfile
from dataclasses import dataclass
from typing import IO, Any, ClassVar, Self

_MAX_HEADERS = 1024 * 1024  # bytes of all headers of one entry: its long names and attributes
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK)  # fmt: skip
_LENGTH = re.compile(rb"([0-9]{1,7}) ")
_SHORTEST = 5  # bytes of a record, as in "5 a=\n"
_DIGITS = re.compile(rb"[0-9]{200}")  # the library looks for numbers in a time that grows with their square


class LayerError(Exception):
    """A layer or an image is not valid."""


class _Entry(tarfile.TarInfo):
    """An entry whose headers are checked before the library reads them; they stay in memory until the entry itself."""

    taken: ClassVar[int] = 0  # bytes of the headers of the present entry

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        entry = super().frombuf(buf, encoding, errors)
        if entry.type not in _HEADERS:
            cls.taken = 0
        elif not 0 <= entry.size <= _MAX_HEADERS - cls.taken:
            raise LayerError("the headers of an entry are too large")
        else:
            cls.taken += entry.size
        if entry.type == tarfile.GNUTYPE_SPARSE:
            raise LayerError("it has a sparse file of the old GNU format")
        return entry

    def _proc_pax(self, archive: Any) -> Any:
        """Check the attributes of an entry, and let the library read them. Engines ignore those of all entries, too."""
        stream = archive.fileobj
        data = stream.read(-(-self.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        if self.type == tarfile.XGLTYPE:  # they would all stay in memory
            return type(self).fromtarfile(archive)
        _check_records(data[: self.size])
        archive.fileobj = _Again(archive, stream, data[: self.size].ljust(len(data), b"\0"))
        return super()._proc_pax(archive)  # type: ignore[misc]  # not public

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise LayerError("it has a sparse file whose map is in its data, and of any length")


def entries_of_one() -> type[tarfile.TarInfo]:
    """Return the class of the entries of one archive, which counts their headers."""
    return type("_EntryOfOne", (_Entry,), {})


@dataclass(frozen=True, slots=True)
class _Again:
    """Gives data that were read already to the next read, and gives way to the stream."""

    archive: Any
    stream: IO[bytes]
    data: bytes

    def read(self, _size: int) -> bytes:
        self.archive.fileobj = self.stream
        return self.data


def _check_records(data: bytes) -> None:
    """Return if all of the attributes are records of their stated length: else the library reads parts repeatedly.

    Raises:
        LayerError: They are not.
    """
    start = 0
    while start < len(data):
        found = _LENGTH.match(data, start)
        end = start + int(found[1]) if found else 0
        if found is None or end < start + _SHORTEST or data[end - 1 : end] != b"\n":
            raise LayerError("the attributes of an entry are malformed")
        if data.find(b"=", found.end(), end) <= found.end():
            raise LayerError("the attributes of an entry are malformed")
        start = end
    if _DIGITS.search(data):
        raise LayerError("a number among the attributes of an entry is too long")

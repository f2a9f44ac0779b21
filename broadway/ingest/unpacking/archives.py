"""The entries of zip and tar.gz archives, checked before and while they are read.

All of an archive comes from a student: its names, its sizes and its checksums. Each is checked while it is read.
"""

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

from broadway.domain.files import (
    PLAIN,
    PROGRAM,
    FileLimits,
    FileRefusedError,
    FileTree,
    is_litter,
    shown,
    with_slashes,
)

PIECE = 64 * 1024  # bytes that are read at a time
HEADERS = 4096  # bytes of an archive besides its files' contents, for each file that is allowed
_UTF8_NAME, _ENCRYPTED = 0x800, 0x1  # flags of a zip entry
_UNIX = 3  # the system of a zip entry that has a Unix mode
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError),
    *(ValueError, IndexError, NotImplementedError, RuntimeError),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file of an archive: its clean path, its mode, and its content piece by piece."""

    path: str
    mode: int
    pieces: Iterator[bytes]


def entries(archive: BinaryIO, limits: FileLimits) -> Iterator[Entry]:
    """Yield the files of a zip or a gzip-compressed tar archive; each must be read before the next.

    Raises:
        FileRefusedError: The archive is broken or of another kind, or has an entry that no submission may have.
    """
    start = archive.read(4)
    archive.seek(0)
    if start[:2] == b"PK":
        found = _zip_entries
    elif start[:2] == b"\x1f\x8b":
        found = _tar_entries
    else:
        raise FileRefusedError("the archive is neither a zip nor a tar.gz; other kinds are not unpacked")
    with _refusing("the archive"):
        yield from found(archive, limits)


@contextmanager
def _refusing(part: str) -> Iterator[None]:
    """Turn the errors that damaged archives cause into refusals."""
    try:
        yield
    except FileRefusedError:
        raise
    except MemoryError as error:
        raise FileRefusedError(f"{part} needs too much memory to be read") from error
    except _BROKEN as error:
        raise FileRefusedError(f"{part} is broken: {shown(str(error)) or type(error).__name__}") from error


def _zip_entries(archive: BinaryIO, limits: FileLimits) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        if len(infos) > 2 * limits.files:  # directories have entries, too
            raise FileRefusedError(f"the archive has {len(infos)} entries; a submission may have {limits.files} files")
        names = with_slashes([_zip_name(info) for info in infos])
        regular = [(info, name) for info, name in zip(infos, names, strict=True) if _is_wanted(info, name)]
        declared = sum(info.file_size for info, _ in regular)
        if declared > limits.unpacked:
            raise FileRefusedError(_too_large(f"the archive has {declared} bytes unpacked", limits))
        tree, room = FileTree(limits), _Room(limits)
        paths = [tree.add(name) for _, name in regular]  # all names, before any content
        for (info, _), path in zip(regular, paths, strict=True):
            with opened.open(info) as content:
                yield Entry(path, _zip_mode(info), room.pieces(content.read, path, info.file_size))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name as stored; the library cuts it at NUL, and takes old names for the first code page of IBM."""
    name = info.orig_filename
    if info.flag_bits & _UTF8_NAME:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _is_wanted(info: zipfile.ZipInfo, name: str) -> bool:
    """Return whether an entry is a file to keep; directories follow from the files in them.

    Raises:
        FileRefusedError: It is of a kind that no submission may have.
    """
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == _UNIX else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise FileRefusedError(f"{shown(name)} is a link or a device; expected files and directories only")
    if is_litter(name.rstrip("/")):
        return False
    if name.endswith("/") or kind == stat.S_IFDIR:
        return False
    if info.flag_bits & _ENCRYPTED:
        raise FileRefusedError(f"{shown(name)} is encrypted; expected an archive without a password")
    if info.compress_type not in _METHODS:
        raise FileRefusedError(f"{shown(name)} is compressed by a method other than deflate")
    return True


def _zip_mode(info: zipfile.ZipInfo) -> int:
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    return PROGRAM if mode & 0o111 else PLAIN


def _tar_entries(archive: BinaryIO, limits: FileLimits) -> Iterator[Entry]:
    tree, room, seen = FileTree(limits), _Room(limits), 0
    with (
        gzip.GzipFile(fileobj=archive) as unpacked,
        tarfile.open(fileobj=_limited(unpacked, limits), mode="r|", errors="strict") as opened,
    ):
        for member in opened:
            seen += 1
            if seen > 2 * limits.files:
                raise FileRefusedError(f"the archive has too many entries; a submission may have {limits.files} files")
            name = member.name.removeprefix("./")
            if member.isdir() or is_litter(name) or name.rpartition("/")[2].startswith("._"):
                continue
            if member.issparse() or not member.isreg():
                raise FileRefusedError(f"{shown(name)} is a link or a device; expected files and directories only")
            path = tree.add(name)
            content = opened.extractfile(member)
            if content is not None:
                mode = PROGRAM if member.mode & 0o111 else PLAIN
                yield Entry(path, mode, room.pieces(content.read, path, member.size))
            opened.members.clear()  # type: ignore[attr-defined]  # which would keep all headers


def _limited(unpacked: gzip.GzipFile, limits: FileLimits) -> IO[bytes]:
    return cast("IO[bytes]", _Limited(unpacked, limits.unpacked + HEADERS * limits.files, limits))


class _Limited:
    """A stream of an archive's content that ends the reading at a limit."""

    def __init__(self, stream: gzip.GzipFile, most: int, limits: FileLimits) -> None:
        self._stream = stream
        self._left = most
        self._limits = limits

    def read(self, size: int = PIECE) -> bytes:
        piece = self._stream.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise FileRefusedError(_too_large("the archive is larger than that unpacked", self._limits))
        return piece


class _Room:
    """The bytes that the files of an archive may still have."""

    def __init__(self, limits: FileLimits) -> None:
        self._limits = limits
        self._left = limits.unpacked

    def pieces(self, read: Callable[[int], bytes], path: str, declared: int) -> Iterator[bytes]:
        """Yield the content of an entry.

        Raises:
            FileRefusedError: It has another size than its header says, or there is no room for it.
        """
        size = 0
        with _refusing(shown(path)):
            while piece := read(PIECE):
                size += len(piece)
                self._left -= len(piece)
                if self._left < 0:
                    raise FileRefusedError(_too_large(f"{shown(path)} has no room", self._limits))
                yield piece
        if size != declared:
            raise FileRefusedError(f"{shown(path)} has {size} bytes where the archive's directory says {declared}")


def _too_large(problem: str, limits: FileLimits) -> str:
    return f"{problem}; a submission may have {limits.unpacked} bytes in all"

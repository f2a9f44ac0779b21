"""Unpacking one layer of an image into a directory, in the format of the kernel's overlay."""

import contextlib
import errno
import hashlib
import io
import os
import stat
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from broadway.grader.oci.entries import LayerError, entries_of_one
from broadway.grader.sandbox import kernel

WHITEOUT = ".wh."  # before a name: hides that name in lower layers
OPAQUE = ".wh..wh..opq"  # in a directory: hides the directory's content in lower layers
_OVERLAY_OPAQUE = "trusted.overlay.opaque"
_ATTRIBUTE = "SCHILY.xattr."
_KEPT = ("user.", "security.capability")
_CHUNK = 1024 * 1024

_MAX_ATTRIBUTES = 3072  # bytes; file systems without room for more say that the disk is full
_MAX_PATH = 4096  # characters; the kernel takes no longer ones
# The errors of a host; all others come from an archive that cannot be unpacked anywhere.
_OF_HOST = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM}

T = TypeVar("T")


@dataclass(slots=True)
class Room:
    """The room that the layers of one image may still take: bytes, and files and directories."""

    size: int
    files: int

    def take(self, size: int, files: int = 0) -> None:
        """Take some of it.

        Raises:
            LayerError: So much is not left, or the size of an entry is negative.
        """
        if size < 0:
            raise LayerError("an entry has a negative size")
        self.size -= size
        self.files -= files
        if self.size < 0:
            raise LayerError("it has more data than this grader takes (--images-max-size)")
        if self.files < 0:
            raise LayerError("it has more files than this grader takes (--images-max-files)")


def unpack(layer: IO[bytes], into: Path, room: Room) -> str:
    """Unpack a tar archive into an empty directory; return the SHA-256 of the archive in hexadecimal.

    No link in it leads out of the directory, which is the root directory of the work. Devices are skipped.

    Raises:
        LayerError: The archive is not well formed, or exceeds the room.
        OSError: The host cannot write the files.
    """
    hashing = _Hashing(layer, room)

    def work() -> None:
        with tarfile.open(mode="r|", fileobj=hashing, tarinfo=entries_of_one()) as archive:
            archive.extraction_filter = lambda member, _path: member  # the root directory confines it
            _extract(archive, room)

    try:
        in_root(into, work)
        while hashing.read(_CHUNK):
            pass
    except OSError as error:
        if error.errno in _OF_HOST:
            raise
        raise LayerError(f"an entry of a layer cannot be unpacked: {error.strerror or error}") from error
    except (LayerError, MemoryError):
        raise
    except Exception as error:  # the library has no list of the errors that an archive can cause
        raise LayerError(str(error) or type(error).__name__) from error
    return hashing.digest()


def in_root(root: Path, work: Callable[[], T], *, prepare: Callable[[], None] = lambda: None) -> T:
    """Call ``work`` in a new thread with ``root`` as its root directory, so that no link leads out of it.

    ``prepare`` is called before, in the same thread. Return the result of ``work``.

    Raises:
        Exception: Any error of ``prepare`` or ``work``.
    """

    def confined() -> T:
        kernel.unshare(kernel.Unshare.FILE_SYSTEM)
        prepare()
        os.chroot(root)
        os.chdir("/")
        os.umask(0o022)  # for directories without an entry
        return work()

    return in_own_thread(confined)


def in_own_thread(work: Callable[[], T]) -> T:
    """Call ``work`` in a new thread, which ends afterwards with all that it alone sees, and return its result.

    Raises:
        Exception: Any error of ``work``.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the waiting thread
            errors.append(error)

    thread = threading.Thread(target=run, name="unpack")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class _Hashing(io.RawIOBase):
    """A stream that updates a digest with the bytes read from it, which must fit into some room."""

    def __init__(self, stream: IO[bytes], room: Room) -> None:
        self._stream = stream
        self._room = room
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._room.take(len(data))
        self._hash.update(data)
        return data

    def digest(self) -> str:
        return self._hash.hexdigest()


def _extract(archive: tarfile.TarFile, room: Room) -> None:
    directories = []
    for member in archive:
        archive.members.clear()  # type: ignore[attr-defined]  # or the whole list would stay in memory
        room.take(member.size if member.issparse() else 0, files=1)
        path = _path_of(member)
        _make_parents(path, room)
        if path.name == OPAQUE:
            os.setxattr(path.parent, _OVERLAY_OPAQUE, b"y")
        elif path.name.startswith(WHITEOUT * 2):
            continue  # a marker of another union file system
        elif path.name.startswith(WHITEOUT):
            _hide(path.parent, path.name.removeprefix(WHITEOUT))
        elif not (member.ischr() or member.isblk()):
            _replace(path, member)
            archive.extract(member, "/", numeric_owner=True)
            _set_attributes(path, member)
            if member.isdir():
                directories.append((path, member.mtime))
    for path, modified in reversed(directories):  # extracting files has changed their times
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, (modified, modified))


def _path_of(member: tarfile.TarInfo) -> PurePosixPath:
    if len(member.name) > _MAX_PATH:
        raise LayerError("a name is too long")
    return PurePosixPath("/", member.name.lstrip("/"))


def _make_parents(path: PurePosixPath, room: Room) -> None:
    """Make the directories above an entry that have no entry of their own; each takes the room of one."""
    missing = []
    for parent in path.parents:
        if os.path.isdir(parent):  # noqa: PTH112 - links on the way are followed, within the root
            break
        missing.append(parent)
    for parent in reversed(missing):
        room.take(0, files=1)
        Path(parent).mkdir(exist_ok=True)  # there may be "d/.." in the path


def _hide(parent: PurePosixPath, name: str) -> None:
    """Hide a file of lower layers."""
    if name in {"", ".", ".."}:
        raise LayerError(f"{WHITEOUT}{name} hides no file")
    os.mknod(parent / name, stat.S_IFCHR, os.makedev(0, 0))


def _replace(path: PurePosixPath, member: tarfile.TarInfo) -> None:
    """Remove the file of an earlier entry of the same layer."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if not stat.S_ISDIR(os.lstat(path).st_mode) or not member.isdir():
            Path(path).unlink()


def _set_attributes(path: PurePosixPath, member: tarfile.TarInfo) -> None:
    left = _MAX_ATTRIBUTES
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_ATTRIBUTE)
        is_possible = member.isreg() or member.isdir() or not name.startswith("user.")  # the kernel refuses others
        if name != key and name.startswith(_KEPT) and is_possible:
            data = value.encode("utf-8", "surrogateescape")
            left -= len(name) + len(data)
            if left < 0:
                raise LayerError("an entry has too large attributes")
            os.setxattr(path, name, data, follow_symlinks=False)

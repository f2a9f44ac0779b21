"""Unpacking one layer of an image into a directory, in the format of the kernel's overlay."""

import contextlib
import hashlib
import io
import os
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from broadway.grader.sandbox import kernel

WHITEOUT = ".wh."  # before a name: hides that name in lower layers
OPAQUE = ".wh..wh..opq"  # in a directory: hides the directory's content in lower layers
_OVERLAY_OPAQUE = "trusted.overlay.opaque"
_ATTRIBUTE = "SCHILY.xattr."
_KEPT = ("user.", "security.capability")
_CHUNK = 1024 * 1024

T = TypeVar("T")


class LayerError(Exception):
    """A layer or an image is not valid."""


def unpack(layer: IO[bytes], into: Path) -> str:
    """Unpack a tar archive into an empty directory; return the SHA-256 of the archive in hexadecimal.

    No link in it leads out of the directory, which is the root directory of the work. Devices are skipped.

    Raises:
        LayerError: The archive is not well formed.
        OSError: The files cannot be written.
    """
    hashing = _Hashing(layer)

    def work() -> None:
        with tarfile.open(mode="r|", fileobj=hashing) as archive:
            archive.extraction_filter = lambda member, _path: member  # the root directory confines it
            _extract(archive)

    try:
        in_root(into, work)
    except (tarfile.TarError, EOFError, KeyError, ValueError) as error:
        raise LayerError(str(error)) from error
    while hashing.read(_CHUNK):
        pass
    return hashing.digest()


def in_root(root: Path, work: Callable[[], T], *, prepare: Callable[[], None] = lambda: None) -> T:
    """Call ``work`` in a new thread with ``root`` as its root directory, so that no link leads out of it.

    ``prepare`` is called before, in the same thread. Return the result of ``work``.

    Raises:
        Exception: Any error of ``prepare`` or ``work``.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def confined() -> None:
        try:
            kernel.unshare(kernel.Unshare.FILE_SYSTEM)
            prepare()
            os.chroot(root)
            os.chdir("/")
            os.umask(0o022)  # for directories without an entry
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the waiting thread
            errors.append(error)

    thread = threading.Thread(target=confined, name="unpack")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class _Hashing(io.RawIOBase):
    """A stream that updates a digest with the bytes read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        return self._hash.hexdigest()


def _extract(archive: tarfile.TarFile) -> None:
    directories = []
    for member in archive:
        path = PurePosixPath("/", member.name.lstrip("/"))
        if path.name == OPAQUE:
            Path(path.parent).mkdir(parents=True, exist_ok=True)
            os.setxattr(path.parent, _OVERLAY_OPAQUE, b"y")
        elif path.name.startswith(WHITEOUT * 2):
            continue  # a marker of another union file system
        elif path.name.startswith(WHITEOUT):
            Path(path.parent).mkdir(parents=True, exist_ok=True)
            os.mknod(path.parent / path.name.removeprefix(WHITEOUT), stat.S_IFCHR, os.makedev(0, 0))
        elif not (member.ischr() or member.isblk()):
            _replace(path, member)
            archive.extract(member, "/", numeric_owner=True)
            _set_attributes(path, member)
            if member.isdir():
                directories.append((path, member.mtime))
    for path, modified in reversed(directories):  # extracting files has changed their times
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, (modified, modified))


def _replace(path: PurePosixPath, member: tarfile.TarInfo) -> None:
    """Remove the file of an earlier entry of the same layer."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if not stat.S_ISDIR(os.lstat(path).st_mode) or not member.isdir():
            Path(path).unlink()


def _set_attributes(path: PurePosixPath, member: tarfile.TarInfo) -> None:
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_ATTRIBUTE)
        if name != key and name.startswith(_KEPT):
            os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)

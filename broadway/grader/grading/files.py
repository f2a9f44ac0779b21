"""The one way in which the host reads what students may have written, and makes it harmless. It follows no link."""

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

# What opening a device, a FIFO or a terminal does must not happen: it may wait for ever, or have effects.
_SAFELY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK = 64 * 1024


class UnsafeFileError(ValueError):
    """A path that is not what it should be; the text says what it is, in words for whoever wrote it."""


def read(root: Path, path: str, *, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes below ``root``, which itself is trusted.

    Raises:
        UnsafeFileError: There is none, or it is a link, a device, a FIFO, too large, or cannot be read.
    """
    with _opened_parent(root, path) as (parent, name):
        try:
            descriptor = os.open(name, _SAFELY, dir_fd=parent)
        except OSError as error:
            raise UnsafeFileError(f"{path}: {_reason(error)}") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise UnsafeFileError(f"{path}: is not a regular file")
            if found.st_nlink != 1:
                raise UnsafeFileError(f"{path}: has other names too (hard links)")
            return _bounded(descriptor, path, limit)
        finally:
            os.close(descriptor)


def check(root: Path, path: str) -> Path:
    """The place of a file or directory below ``root``, no part of which is a link.

    Nobody may be writing there: then what was found here is what is found later.

    Raises:
        UnsafeFileError: There is none, or it is neither of the two.
    """
    with _opened_parent(root, path) as (parent, name):
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        except OSError as error:
            raise UnsafeFileError(f"{path}: {_reason(error)}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UnsafeFileError(f"{path}: is neither a file nor a directory")
    return root / path


async def neutralise(directory: Path) -> None:
    """Make harmless what is below a directory to which nobody is writing, and readable for whoever looks at it next.

    Links, devices, FIFOs and sockets are removed, set-id bits cleared.

    Raises:
        UnsafeFileError: Who is not root may not look at all of it.
        OSError: That was not possible.
    """
    kinds = ["(", "-type", "l", "-o", "-type", "p", "-o", "-type", "s", "-o", "-type", "b", "-o", "-type", "c", ")"]
    await _find(directory, *kinds, "-delete")
    await _find(directory, "-type", "f", "-links", "+1", "-delete")
    # No link is left.
    await _find(directory, "-perm", "/7000", "-execdir", "chmod", "a-s,-t", "--", "{}", "+")
    if os.geteuid() == 0:  # others may not change what is not theirs
        await _find(directory, "!", "-perm", "-444", "-execdir", "chmod", "a+rX", "--", "{}", "+")


async def _find(directory: Path, *expression: str) -> None:
    find = shutil.which("find") or "/usr/bin/find"
    process = await asyncio.create_subprocess_exec(
        *(find, "-P", str(directory), "-xdev", "-mindepth", "1", *expression),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )
    _, problem = await process.communicate()
    if process.returncode and os.geteuid() != 0:
        raise UnsafeFileError("there is something in it that cannot be looked at")
    if process.returncode:
        raise OSError(process.returncode, f"find: {problem[:400].decode(errors='replace')}")


@contextlib.contextmanager
def _opened_parent(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """A descriptor of the directory that has the path's last part, and that part."""
    *directories, name = path.split("/")
    with contextlib.ExitStack() as stack:
        descriptor = _open(str(root), _DIRECTORY, None, path)
        stack.callback(os.close, descriptor)
        for directory in directories:
            descriptor = _open(directory, _DIRECTORY, descriptor, path)
            stack.callback(os.close, descriptor)
        yield descriptor, name


def _open(name: str, flags: int, parent: int | None, path: str) -> int:
    try:
        return os.open(name, flags, dir_fd=parent)
    except OSError as error:
        raise UnsafeFileError(f"{path}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    """Without the host's words for what a student did."""
    match error:
        case FileNotFoundError():
            return "does not exist"
        case NotADirectoryError():
            return "a part of the path is not a directory"
    return "is a link" if error.errno == _TOO_MANY_LINKS else f"cannot be opened ({os.strerror(error.errno or 0)})"


_TOO_MANY_LINKS = 40  # ELOOP, which O_NOFOLLOW gives


def _bounded(descriptor: int, path: str, limit: int) -> bytes:
    chunks: list[bytes] = []
    left = limit + 1
    while left > 0 and (chunk := os.read(descriptor, min(left, _CHUNK))):
        chunks.append(chunk)
        left -= len(chunk)
    if left <= 0:
        raise UnsafeFileError(f"{path}: is larger than {limit} bytes")
    return b"".join(chunks)

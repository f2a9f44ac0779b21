"""Reading files that students may have written, and making them harmless. No function here follows a link."""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from broadway.domain.artifacts import matches, may_match
from broadway.grader.sandbox import tree

_DIRECTORY = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK = 64 * 1024
MAX_ENTRIES = 20_000  # of directories, in one search for files


class UnsafeFileError(ValueError):
    """A path is not an acceptable file or directory; the text gives the reason to the assignment's author."""


class TooLargeError(UnsafeFileError):
    """A file is larger than its limit; ``beginning`` has as many bytes as the limit."""

    def __init__(self, path: str, limit: int, beginning: bytes) -> None:
        super().__init__(f"{path}: is larger than {limit} bytes")
        self.path = path
        self.beginning = beginning


def read(root: Path, path: str, *, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes below ``root``, which itself is trusted.

    Raises:
        UnsafeFileError: The file does not exist, is a link, a device or a FIFO, is too large, or cannot be read.
    """
    with _opened_parent(root, path) as (parent, name):
        try:
            descriptor = os.open(name, tree.SAFE, dir_fd=parent)
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


def matching(root: Path, pattern: str, *, most: int) -> list[str]:
    """Return the sorted paths of the files below ``root`` that match a pattern of a path, name by name.

    Links are not followed, and names with control characters are left out.

    Raises:
        UnsafeFileError: No file matches, or more than ``most``; or the search has reached a limit.
    """
    budget = tree.Budget(tree.Bounds(entries=MAX_ENTRIES))
    try:
        found = sorted(path for path in search(root, (), [pattern], budget) if path.isprintable())
    except tree.TooManyFilesError as error:
        raise UnsafeFileError(f"{pattern}: {error}") from None
    except OSError as error:
        raise UnsafeFileError(f"{pattern}: {_reason(error)}") from None
    if not found:
        raise UnsafeFileError(f"{pattern}: no file matches")
    if len(found) > most:
        raise UnsafeFileError(f"{pattern}: {len(found)} files match, {most} are allowed")
    return found


def search(root: Path, names: tuple[str, ...], patterns: Sequence[str], budget: tree.Budget) -> Iterator[str]:
    """Yield the paths that match patterns, of the files below a trusted directory whose own path has ``names``.

    Links are not followed: one that matches is yielded, and ``read`` refuses it. A directory that this process may not
    open is left out.

    Raises:
        TooManyFilesError: A limit is reached.
        OSError: A directory cannot be read.
    """
    if may_match(patterns, names):
        yield from _searched(root, None, names, patterns, budget)


def _searched(
    name: Path | str, parent: int | None, names: tuple[str, ...], patterns: Sequence[str], budget: tree.Budget
) -> Iterator[str]:
    """Yield the matching paths below a directory; a pattern has few names, so few directories are open."""
    try:
        here = os.open(name, tree.SAFE | os.O_DIRECTORY, dir_fd=parent)
    except PermissionError:
        return
    try:
        for each in _names(here, budget):
            path = (*names, each)
            if _is_directory(here, each):
                if may_match(patterns, path):
                    yield from _searched(each, here, path, patterns, budget)
            elif matches(patterns, path):
                yield "/".join(path)
    finally:
        os.close(here)


def _names(directory: int, budget: tree.Budget) -> list[str]:
    with os.scandir(directory) as entries:
        found = []
        for entry in entries:
            budget.spend()
            found.append(entry.name)
    return found


def _is_directory(parent: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def check(root: Path, path: str) -> Path:
    """Return the path of a file or directory below ``root``, no part of which is a link.

    No program may be writing below ``root`` meanwhile, or the answer may be out of date.

    Raises:
        UnsafeFileError: The path does not exist, contains a link, or is neither a file nor a directory.
    """
    with _opened_parent(root, path) as (parent, name):
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        except OSError as error:
            raise UnsafeFileError(f"{path}: {_reason(error)}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UnsafeFileError(f"{path}: is neither a file nor a directory")
    return root / path


async def neutralise(directories: Mapping[str, Path], bounds: tree.Bounds) -> None:
    """Make everything below some directories harmless; see ``tree.neutralise``. They are given by their paths' names.

    Raises:
        UnsafeFileError: There is too much of it, or this process is not root and may not change all of it.
        OSError: The clean-up failed.
    """
    await tree.run(partial(_neutralise, directories), bounds)


def _neutralise(directories: Mapping[str, Path], budget: tree.Budget) -> None:
    for path, directory in directories.items():
        try:
            tree.neutralise(directory, budget)
        except tree.TooManyFilesError as error:
            raise UnsafeFileError(f"{path}: {error}") from None
        except PermissionError:
            if os.geteuid() == 0:
                raise
            raise UnsafeFileError(f"{path}: contains something that cannot be read") from None


@contextlib.contextmanager
def _opened_parent(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """Yield a descriptor of the directory that holds the path's last part, and the last part's name."""
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
    """Describe an error without details of the host."""
    match error:
        case FileNotFoundError():
            return "does not exist"
        case NotADirectoryError():
            return "a part of the path is not a directory"
    return "is a link" if error.errno == _TOO_MANY_LINKS else f"cannot be opened ({os.strerror(error.errno or 0)})"


_TOO_MANY_LINKS = 40  # ELOOP, the error of O_NOFOLLOW


def _bounded(descriptor: int, path: str, limit: int) -> bytes:
    chunks: list[bytes] = []
    remaining = limit + 1
    while remaining > 0 and (chunk := os.read(descriptor, min(remaining, _CHUNK))):
        chunks.append(chunk)
        remaining -= len(chunk)
    if remaining <= 0:
        raise TooLargeError(path, limit, b"".join(chunks)[:limit])
    return b"".join(chunks)

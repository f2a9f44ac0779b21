"""Walks over the files that a student's program has left: each in one pass, with limits, and never through a link.

A walk holds one descriptor at a time, however deep the tree is, and starts no process. It belongs in a thread
(``run``): it stops soon after the cancellation of the task that waits for it, and ends with the grader's process.
"""

import asyncio
import errno
import os
import stat
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from broadway.runtime.cancellation import finish
from broadway.runtime.threads import in_own_thread

# Opening a device, a FIFO or a terminal must not block or have other effects.
SAFE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_SET_IDS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_READABLE, _EXECUTABLE = 0o444, 0o111
CHECK_EVERY = 64  # entries between two checks of the clocks
CHUNK = 256  # names that a removal reads at a time
_DEEP = 256  # levels below which it reads one name at a time, so that the names of all levels fit in memory

T = TypeVar("T")


class TooManyFilesError(Exception):
    """A walk has reached one of its limits; the text says which."""


class StoppedError(Exception):
    """The task that waited for a walk was cancelled."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a walk: the number of files and directories, seconds of CPU time, and seconds."""

    entries: int = 50_000
    cpu_seconds: float = 10.0
    seconds: float = 60.0


@dataclass(slots=True)
class Budget:
    """What is left of a walk's limits, in the thread that walks."""

    bounds: Bounds = field(default_factory=Bounds)
    stop: threading.Event = field(default_factory=threading.Event)
    left: int = field(init=False)
    _cpu_until: float = field(init=False)
    _until: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.bounds.entries
        self._cpu_until = time.thread_time() + self.bounds.cpu_seconds
        self._until = time.monotonic() + self.bounds.seconds

    def spend(self) -> None:
        """Count one entry.

        Raises:
            TooManyFilesError: A limit is reached.
            StoppedError: The walk was told to stop.
        """
        if self.left <= 0:
            raise TooManyFilesError(f"too many files and directories, more than {self.bounds.entries}")
        self.left -= 1
        if self.left % CHECK_EVERY == 0:
            self._check()

    def _check(self) -> None:
        if self.stop.is_set():
            raise StoppedError
        if time.thread_time() > self._cpu_until or time.monotonic() > self._until:
            count = self.bounds.entries - self.left
            raise TooManyFilesError(f"too many files and directories to check in time, {count} so far")


async def run(walk: Callable[[Budget], T], bounds: Bounds) -> T:
    """Call a walk in a thread of its own; a cancellation stops it, and is raised once it has stopped.

    Raises:
        TooManyFilesError: The walk has reached one of its limits.
        OSError: The walk failed.
    """
    stop = threading.Event()
    walking = in_own_thread(lambda: walk(Budget(bounds, stop)), name="files")
    try:
        return await asyncio.shield(walking)
    except asyncio.CancelledError:
        stop.set()
        await finish(asyncio.wait({walking}))
        walking.exception()  # retrieved, or asyncio logs that it never was
        raise


def neutralise(directory: Path, budget: Budget) -> None:
    """Make a directory and everything below it harmless, and readable for the next stage, if this process is root.

    Links, devices, FIFOs and sockets are removed, and so are further names of a file (hard links); set-id bits are
    cleared. No program may be writing there.

    Raises:
        TooManyFilesError: A limit is reached; the rest is as it was.
        OSError: A file cannot be changed.
    """
    _walk(directory, _Neutralising(budget, readable=os.geteuid() == 0))


def remove(directory: Path, budget: Budget) -> None:
    """Remove everything below a directory, and the directory; nothing on other file systems is touched.

    Raises:
        TooManyFilesError: A limit is reached; a further call goes on.
        OSError: A file cannot be removed.
    """
    _walk(directory, _Removing(budget))
    directory.rmdir()


def remove_all(directory: Path) -> None:
    """Remove a directory that no student's program could write to, with everything below it.

    Raises:
        OSError: A file cannot be removed.
    """
    remove(directory, Budget(Bounds(2**62, float("inf"), float("inf"))))


@dataclass(slots=True)
class _Visitor(ABC):
    """What a walk does with each entry. Names are relative to the descriptor of the directory that has them."""

    budget: Budget

    @abstractmethod
    def names(self, directory: int, depth: int, *, first: bool) -> list[str]:
        """Return names to visit next in a directory that is ``depth`` levels down; none to leave it.

        ``first`` is true when the walk arrives there; afterwards, it asks whenever all names have been visited.
        """

    @abstractmethod
    def visit(self, directory: int, name: str) -> bool:
        """Treat an entry; return True to descend into it."""

    @abstractmethod
    def leave(self, directory: int, name: str) -> None:
        """Treat a directory whose entries have all been treated."""

    @abstractmethod
    def arrive(self, directory: int) -> None:
        """Treat the directory itself, before its entries."""


@dataclass(slots=True)
class _Level:
    """A directory on the way from the root of a walk to where it is."""

    name: str
    identity: tuple[int, int]
    names: list[str]


def _walk(root: Path, visitor: _Visitor) -> None:
    here = os.open(root, _DIRECTORY)
    try:
        levels = [_arrive(here, "", 0, visitor)]
        while levels:
            level = levels[-1]
            if not level.names:
                level.names = visitor.names(here, len(levels) - 1, first=False)
            if level.names:
                name = level.names.pop()
                if visitor.visit(here, name):
                    move(here, name)
                    if _identity(here)[0] != level.identity[0]:
                        raise OSError(errno.EXDEV, "another file system is mounted there")
                    levels.append(_arrive(here, name, len(levels), visitor))
                continue
            levels.pop()
            if levels:
                move(here, "..")
                if _identity(here) != levels[-1].identity:
                    raise OSError(errno.ESTALE, "a directory was moved during the walk")
                visitor.leave(here, level.name)
    finally:
        os.close(here)


def _arrive(here: int, name: str, depth: int, visitor: _Visitor) -> _Level:
    visitor.arrive(here)
    return _Level(name, _identity(here), visitor.names(here, depth, first=True))


def move(here: int, name: str) -> None:
    """Make the descriptor of a directory refer to another one, named relative to it."""
    there = os.open(name, _DIRECTORY, dir_fd=here)
    try:
        os.dup2(there, here, inheritable=False)
    finally:
        os.close(there)


def _identity(directory: int) -> tuple[int, int]:
    found = os.fstat(directory)
    return found.st_dev, found.st_ino


def _listed(directory: int, most: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in islice(entries, most)]


@dataclass(slots=True)
class _Neutralising(_Visitor):
    """Removes what could do harm, and gives what remains harmless modes."""

    readable: bool

    def names(self, directory: int, depth: int, *, first: bool) -> list[str]:  # noqa: ARG002 - it reads all at once
        return _listed(directory, self.budget.left + 1) if first else []

    def visit(self, directory: int, name: str) -> bool:
        self.budget.spend()
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return True
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.unlink(name, dir_fd=directory)
        elif self._wanted(found.st_mode) != stat.S_IMODE(found.st_mode):
            self._change(directory, name)
        return False

    def arrive(self, directory: int) -> None:
        mode = os.fstat(directory).st_mode
        if self._wanted(mode) != stat.S_IMODE(mode):
            os.fchmod(directory, self._wanted(mode))

    def leave(self, directory: int, name: str) -> None:
        """Leave the directory as it is."""

    def _change(self, directory: int, name: str) -> None:
        file = os.open(name, SAFE, dir_fd=directory)
        try:
            os.fchmod(file, self._wanted(os.fstat(file).st_mode))
        finally:
            os.close(file)

    def _wanted(self, mode: int) -> int:
        wanted = stat.S_IMODE(mode) & ~_SET_IDS
        if not self.readable:
            return wanted
        may_execute = stat.S_ISDIR(mode) or mode & _EXECUTABLE
        return wanted | _READABLE | (_EXECUTABLE if may_execute else 0)


@dataclass(slots=True)
class _Removing(_Visitor):
    """Removes everything; after each chunk of names it reads again, since the names of a directory have no limit."""

    def names(self, directory: int, depth: int, *, first: bool) -> list[str]:  # noqa: ARG002 - the same each time
        return _listed(directory, CHUNK if depth < _DEEP else 1)

    def visit(self, directory: int, name: str) -> bool:
        self.budget.spend()
        try:
            os.unlink(name, dir_fd=directory)
        except IsADirectoryError:
            return True
        return False

    def arrive(self, directory: int) -> None:
        """Leave the directory as it is until it is empty."""

    def leave(self, directory: int, name: str) -> None:
        os.rmdir(name, dir_fd=directory)

"""Numbers of users for untrusted stages: each job that runs has one of its own.

The kernel counts pending signals, timers, inotify instances, pipe buffers and more by user, for all containers of a
host together: with one user for all, a job could use up what its neighbors need. Graders of one host reserve their
numbers in one file, so that no two of them, even of different deployments, use the same.
"""

import contextlib
import errno
import fcntl
import os
import random
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

FIRST = 70_000  # above the users of the system and of people, below those that user namespaces are given
COUNT = 20_000
OF_HOST = Path("/run/broadway.users")
_OVERFLOW = {65534, 65535}  # the kernel's names for users that it cannot name
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = "hhqqi0q"  # struct flock of fcntl(2): type, whence, start, length, process


class Users:
    """The numbers of one grader, which stay reserved until its process ends.

    Args:
        first: The first of the ``COUNT`` numbers to choose from.
        places: Where the file may be in which numbers are reserved, one byte for each: the first that can be written.
    """

    def __init__(self, first: int = FIRST, places: Sequence[Path] = (OF_HOST,)) -> None:
        self._candidates = iter(_shuffled(first))
        self._places = places
        self._descriptor: int | None = None
        self._free: deque[int] = deque()

    @contextlib.contextmanager
    def taken(self) -> Iterator[int]:
        """Yield a number that nothing else uses within the context. The one that was used longest ago comes first.

        Raises:
            OSError: All numbers are taken, or the file cannot be written.
        """
        user = self._free.popleft() if self._free else self._reserve()
        try:
            yield user
        finally:
            self._free.append(user)

    def close(self) -> None:
        """Give the numbers back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._free.clear()

    def _reserve(self) -> int:
        if self._descriptor is None:
            self._descriptor = _opened(self._places)
        for user in self._candidates:
            if _lock(self._descriptor, user):
                return user
        raise OSError(errno.EAGAIN, "all user numbers for untrusted stages are taken")


def _shuffled(first: int) -> Iterator[int]:
    """Yield all numbers from a random one on, since graders in different containers may not share a file."""
    start = random.randrange(COUNT)  # noqa: S311 - not a secret
    numbers = (first + (start + each) % COUNT for each in range(COUNT))
    return (number for number in numbers if number not in _OVERFLOW)


def _opened(places: Sequence[Path]) -> int:
    """Open the first of the files that can be written."""
    *others, last = places
    for place in others:
        with contextlib.suppress(OSError):
            return os.open(place, _OPEN, 0o600)
    return os.open(last, _OPEN, 0o600)


def _lock(file: int, byte: int) -> bool:
    """Lock a byte of a file until its descriptor is closed; return False if another one has locked it."""
    wanted = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, wanted)
    except BlockingIOError:
        return False
    return True

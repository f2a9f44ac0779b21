"""Values that are read again before they are too old, so that readers who keep asking do not wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

EARLY = 3  # a read begins so many of its durations before the value is too old
SOONEST = 0.25  # of the time for which a value may be used


class Refreshed(Generic[Value]):
    """A value that is used again while it is fresh.

    A reader who asks for a value that is soon too old gets it, and begins the next read; without readers nothing is
    read. An error of a read for which no reader waits is lost: the next read raises its own.

    Args:
        read: The read; it returns a value, and the time from which on the age of the value counts.
        fresh: Seconds for which a value may be used.
        clock: The time in seconds.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[tuple[Value, float]]],
        *,
        fresh: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._fresh = fresh
        self._clock = clock
        self._known: tuple[Value, float] | None = None
        self._seconds = 0.0  # that the last read took
        self._reading: asyncio.Task[Value] | None = None

    async def get(self) -> Value:
        """Return a fresh value; wait for a read if there is none."""
        if self._known is None or (age := self._clock() - self._known[1]) >= self._fresh:
            return await asyncio.shield(self._begun())
        value, _ = self._known
        if age >= max(SOONEST * self._fresh, self._fresh - EARLY * self._seconds):
            self._begun()
        return value

    def put(self, value: Value, read_at: float) -> None:
        """Take a value whose read has begun at a time; the value of a later read stays."""
        if self._known is None or self._known[1] <= read_at:
            self._known = value, read_at

    def _begun(self) -> "asyncio.Task[Value]":
        """Return the read that goes on, or begin one."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._run())
            self._reading.add_done_callback(_retrieve)
        return self._reading

    async def _run(self) -> Value:
        value, read_at = await self._read()
        self._seconds = self._clock() - read_at
        self.put(value, read_at)
        return value


def _retrieve(task: "asyncio.Task[Value]") -> None:
    """Take the error of a read for which no reader waits, or asyncio logs it as lost."""
    if not task.cancelled():
        task.exception()

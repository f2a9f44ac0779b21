"""A cache for values that are read again and again; it keeps them for a moment."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

LIFETIME = 1.0  # seconds for which a change by another process may stay unseen
REFRESHED = LIFETIME / 2  # seconds; an older value is read again in the background, so that no caller waits for it

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Values by key, at most ``LIFETIME`` old. A missing value is not cached.

    Callers of one key share a read, so that an expired value that many ask for costs one read.
    """

    def __init__(
        self, read: Callable[[str], Awaitable[Value | None]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._known: dict[str, tuple[float, Value]] = {}
        self._reads: dict[str, asyncio.Task[Value | None]] = {}

    async def get(self, key: str) -> Value | None:
        """Return the value of a key, or None.

        Raises:
            StoreError: The value is not cached, and the store is unavailable.
        """
        read_at, value = self._known.get(key, (0.0, None))
        age = self._clock() - read_at
        if value is None or age >= LIFETIME:
            is_under_way = key in self._reads
            value = await asyncio.shield(self._shared(key))
            if value is None and is_under_way:  # it may have been stored since that read began
                value = await asyncio.shield(self._shared(key))
            return value
        if age >= REFRESHED:
            self._shared(key)
        return value

    def forget(self, key: str) -> None:
        """Drop a value that has changed, so that the next call reads it again."""
        self._known.pop(key, None)
        self._reads.pop(key, None)

    def _shared(self, key: str) -> "asyncio.Task[Value | None]":
        """Return the present read of a key, which begins now unless another caller has begun it."""
        reading = self._reads.get(key)
        if reading is None:
            reading = self._reads[key] = asyncio.create_task(self._refresh(key))
            reading.add_done_callback(_observe)
        return reading

    async def _refresh(self, key: str) -> Value | None:
        begun, reading = self._clock(), asyncio.current_task()
        try:
            value = await self._read(key)
            if (
                self._reads.get(key) is reading
            ):  # otherwise the value was changed meanwhile, and this may be the old one
                self._keep(key, begun, value)
            return value
        finally:
            if self._reads.get(key) is reading:
                del self._reads[key]

    def _keep(self, key: str, begun: float, value: Value | None) -> None:
        if value is None:
            self._known.pop(key, None)
        else:
            self._known[key] = (begun, value)


def _observe(reading: "asyncio.Task[Value | None]") -> None:
    """Take note of a read's error, which the callers raise; a read in the background has none."""
    if not reading.cancelled():
        reading.exception()

"""A cache for values that are read again and again; it keeps them for a moment."""

import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

LIFETIME = 1.0  # seconds for which a change by another process may stay unseen

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Values by key, at most ``LIFETIME`` old. A missing value is not cached."""

    def __init__(self, read: Callable[[str], Awaitable[Value | None]]) -> None:
        self._read = read
        self._known: dict[str, tuple[float, Value]] = {}

    async def get(self, key: str) -> Value | None:
        read_at, value = self._known.get(key, (0.0, None))
        now = time.monotonic()
        if value is not None and now - read_at < LIFETIME:
            return value
        self.forget(key)
        value = await self._read(key)
        if value is not None:
            self._known[key] = (now, value)
        return value

    def forget(self, key: str) -> None:
        """Drop a value that has changed, so that the next call reads it again."""
        self._known.pop(key, None)

"""What is asked for again and again, kept for a moment."""

import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

KEPT = 1.0  # seconds for which what another process has changed may not be seen

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Values by key as they were a moment ago at most. What is not there is looked for each time."""

    def __init__(self, read: Callable[[str], Awaitable[Value | None]]) -> None:
        self._read = read
        self._known: dict[str, tuple[float, Value]] = {}

    async def get(self, key: str) -> Value | None:
        read_at, value = self._known.get(key, (0.0, None))
        now = time.monotonic()
        if value is not None and now - read_at < KEPT:
            return value
        self.forget(key)
        value = await self._read(key)
        if value is not None:
            self._known[key] = (now, value)
        return value

    def forget(self, key: str) -> None:
        """Read it anew next time: it has been changed."""
        self._known.pop(key, None)

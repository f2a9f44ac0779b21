"""How much a container writes to the engine's disk: free space is looked at, which costs nothing, again and again.

The engine, which has to count file by file, is asked only when there is reason to.
"""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

LOOK_EVERY = 1.0  # seconds between two looks
PART = 4  # of the limit: so much less free space than before is reason to ask
ASK_AFTER = 5.0  # seconds after which any less is, and that it is not known how much there is
ASK_ANYWAY = 30.0  # seconds after which there need be no reason: what others remove may hide what this one writes


@dataclass(slots=True)
class DiskWatch:
    """One container's use of the disk.

    Args:
        limit: What it may write, in bytes; infinity, if it cannot write at all.
        place: A directory on the engine's disk; None if that is not on this host.
        measure: Asks the engine what the container has written, in bytes; None if it does not tell.
        look_every: Seconds between two looks at the free space.
        ask_after: Seconds after which any loss of free space is a reason to ask, and so is not knowing the free space.
        ask_anyway: Seconds after which the engine is asked without a reason.
    """

    limit: float
    place: Path | None
    measure: Callable[[], Awaitable[int | None]]
    look_every: float = LOOK_EVERY
    ask_after: float = ASK_AFTER
    ask_anyway: float = ASK_ANYWAY
    _before: int | None = None  # bytes that were free when it started
    _most: int | None = None  # … at their highest since the engine was asked
    _asked_at: float = 0.0

    def begin(self) -> None:
        """Note how things are as the container starts."""
        self._before = self._most = self._free()
        self._asked_at = time.monotonic()

    async def exceeded(self) -> None:
        """Return once the container has written more than it may."""
        if math.isinf(self.limit):
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(self.look_every)
            if self._has_reason() and await self._is_over():
                return

    async def was_exceeded(self) -> bool:
        """Whether a container that has ended by itself had written more than it may, where that can be suspected."""
        free = self._free()
        if free is None or self._before is None:
            return False
        return self._before - free > self.limit / PART and await self._is_over()

    def _has_reason(self) -> bool:
        waited, free = time.monotonic() - self._asked_at, self._free()
        if free is None or self._most is None:
            return waited >= self.ask_after
        self._most = max(self._most, free)
        lost = self._most - free
        return lost > self.limit / PART or waited >= (self.ask_after if lost else self.ask_anyway)

    async def _is_over(self) -> bool:
        free, asked_at = self._free(), time.monotonic()
        written = await self.measure()
        if written is None:
            return False
        self._most, self._asked_at = free, asked_at
        return written > self.limit

    def _free(self) -> int | None:
        if self.place is None:
            return None
        try:
            found = os.statvfs(self.place)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize

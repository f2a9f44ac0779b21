"""A container's use of the engine's disk, watched by polling the free space, which is cheap.

The engine, which must add up file by file, is asked only when the free space gives a reason.
"""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broadway.grader.ports import KilledFor
from broadway.runtime.cancellation import end

CHECK_INTERVAL = 1.0  # seconds between checks of the free space
LOSS_DIVISOR = 4  # a loss of free space above this part of the limit, a quarter, is a reason to ask at once
ASK_ON_LOSS_AFTER = 5.0  # seconds after which any loss of free space, or an unknown free space, is a reason to ask
SLOW_ANSWER = 0.25  # seconds; very many files make the engine slow
REST_FACTOR = 4  # after a slow answer, the engine is not asked for this many times as long as the answer took
ASK_ALWAYS_AFTER = 30.0  # seconds after which the engine is asked in any case: deletions elsewhere may hide writes


@dataclass(slots=True)
class DiskWatch:
    """One container's use of the disk.

    Args:
        limit: The maximum number of bytes that it may write; infinity if it cannot write at all.
        place: A directory on the engine's disk; None if the disk is not on this host.
        measure: Asks the engine for the number of bytes that the container has written; None if it does not answer.
        check_interval: Seconds between checks of the free space.
        ask_after: Seconds after which any loss of free space, or an unknown free space, is a reason to ask the engine.
        ask_anyway: Seconds after which the engine is asked without a reason.
    """

    limit: float
    place: Path | None
    measure: Callable[[], Awaitable[int | None]]
    check_interval: float = CHECK_INTERVAL
    ask_after: float = ASK_ON_LOSS_AFTER
    ask_anyway: float = ASK_ALWAYS_AFTER
    _free_at_start: int | None = None  # free bytes when the container started
    _peak_free: int | None = None  # the highest number of free bytes since the engine was asked
    _asked_at: float = 0.0
    _rests_until: float = 0.0

    def begin(self) -> None:
        """Record the free space as the container starts."""
        self._free_at_start = self._peak_free = self._free()
        self._asked_at = time.monotonic()

    async def exceeded(self) -> None:
        """Return once the container has written more than its limit."""
        if math.isinf(self.limit):
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(self.check_interval)
            if self._has_reason() and await self._is_over():
                return

    async def was_exceeded(self) -> bool:
        """Return True if a container that ended by itself had written more than its limit.

        The engine is asked only if a loss of free space gives a reason.
        """
        free = self._free()
        if free is None or self._free_at_start is None:
            return False
        return self._free_at_start - free > self.limit / LOSS_DIVISOR and await self._is_over()

    def _has_reason(self) -> bool:
        now, free = time.monotonic(), self._free()
        waited = now - self._asked_at
        if now < self._rests_until:
            return False
        if free is None or self._peak_free is None:
            return waited >= self.ask_after
        self._peak_free = max(self._peak_free, free)
        lost = self._peak_free - free
        return lost > self.limit / LOSS_DIVISOR or waited >= (self.ask_after if lost else self.ask_anyway)

    async def _is_over(self) -> bool:
        free, asked_at = self._free(), time.monotonic()
        written = await self.measure()
        took = time.monotonic() - asked_at
        self._rests_until = asked_at + took * (1 + REST_FACTOR) if took > SLOW_ANSWER else 0.0
        if written is None:
            return False
        self._peak_free, self._asked_at = free, asked_at
        return written > self.limit

    def _free(self) -> int | None:
        if self.place is None:
            return None
        try:
            found = os.statvfs(self.place)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize


async def wait_until_due(
    follower: asyncio.Future[bool],
    disk: DiskWatch,
    timeout: float,  # noqa: ASYNC109
    stop: asyncio.Event,
) -> KilledFor | None:
    """Wait until a container has ended, or must end.

    It must end once ``timeout`` seconds have passed, it has written too much to its disk, or ``stop`` is set.

    Returns:
        The reason to kill it; None if it has ended.
    """
    exceeded, stopped = asyncio.create_task(disk.exceeded()), asyncio.create_task(stop.wait())
    either: set[asyncio.Future[Any]] = {follower, exceeded, stopped}
    try:
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if follower.done():
            return None
        if stopped.done():
            return KilledFor.CANCEL
        return KilledFor.DISK if exceeded.done() else KilledFor.TIME
    finally:
        await end(exceeded, stopped)

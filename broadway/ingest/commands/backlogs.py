"""The number of jobs of each course that wait, and its limit."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from broadway.ingest.commands.limits import QuotaError

LIFETIME = 1.0  # seconds for which a count is used again
MOST_LIFETIME = 10.0  # seconds, of a count that took long, as one of many jobs does
SHARE = 0.02  # of the time is spent on counting at most, within those bounds
RETRY_AFTER = 60  # seconds, for clients that met the limit


class BacklogFullError(QuotaError):
    """As many jobs of the course wait as may; a later submission may be accepted."""


class CountedJobs(Protocol):
    """Waiting jobs, by course."""

    async def count_backlog(self, course: str) -> int:
        """Return the number of a course's jobs that are queued."""


@dataclass(slots=True)
class _Count:
    until: float = 0.0
    jobs: int = 0
    reading: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Backlogs:
    """Counts waiting jobs; concurrent callers share a read of the store, and its count serves for a while."""

    jobs: CountedJobs
    clock: Callable[[], float] = time.monotonic
    _counts: dict[str, _Count] = field(default_factory=dict)

    async def demand_room(self, course: str, number: int, *, most: int) -> None:
        """Return if ``number`` further jobs of a course may wait, and count them.

        Raises:
            BacklogFullError: More than ``most`` would wait.
        """
        known = self._counts.setdefault(course, _Count())
        if self.clock() >= known.until:
            if known.reading is None:
                known.reading = asyncio.create_task(self._count(course, known))
                known.reading.add_done_callback(_observe)
            await asyncio.shield(known.reading)
        if known.jobs + number > most:
            raise BacklogFullError(
                f"{known.jobs} jobs of {course} wait already and this run has {number}; {most} may wait. "
                "Cancel runs that are not needed, or submit again when jobs have ended"
            )
        known.jobs += number

    async def _count(self, course: str, known: _Count) -> None:
        begun = self.clock()
        try:
            known.jobs = await self.jobs.count_backlog(course)
            now = self.clock()
            known.until = now + min(max(LIFETIME, (now - begun) / SHARE), MOST_LIFETIME)
        finally:
            known.reading = None


def _observe(reading: asyncio.Task[None]) -> None:
    """Take note of a read's error, which the callers raise unless all of them have been cancelled."""
    if not reading.cancelled():
        reading.exception()

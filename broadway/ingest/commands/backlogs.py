"""The number of jobs of each course that wait, and its limit."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from broadway.ingest.commands.limits import QuotaError

LIFETIME = 1.0  # seconds for which a count is used again, at least
SHARE = 100  # counts take at most 1/100 of the time while there is room
RETRY_AFTER = 60  # seconds, for clients that met the limit


class BacklogFullError(QuotaError):
    """As many jobs of the course wait as may; a later submission may be accepted."""


class CountedJobs(Protocol):
    """Waiting jobs, by course."""

    async def count_backlog(self, course: str) -> int:
        """Return the number of a course's jobs that are queued."""


@dataclass(slots=True)
class _Count:
    """A course's number of waiting jobs, which is used until a moment unless it leaves no room."""

    at: float
    until: float
    jobs: int


@dataclass(frozen=True, slots=True)
class Backlogs:
    """Counts waiting jobs. Counting a long backlog costs the store much, so such a count is used for longer.

    A count that leaves no room for a run is read again if it is older than ``LIFETIME``.
    """

    jobs: CountedJobs
    _counts: dict[str, _Count] = field(default_factory=dict)
    _promised: Counter[str] = field(default_factory=Counter)

    async def demand_room(self, course: str, number: int, *, most: int) -> None:
        """Return if ``number`` further jobs of a course may wait, and count them.

        Raises:
            BacklogFullError: More than ``most`` would wait.
        """
        known, now = self._counts.get(course), time.monotonic()
        if known is None or now > (known.until if known.jobs + number <= most else known.at + LIFETIME):
            if known:
                known.at = known.until = now + LIFETIME  # concurrent submissions use the earlier count meanwhile
            known = self._counts[course] = await self._count(course)
        if known.jobs + number > most:
            raise BacklogFullError(
                f"{known.jobs} jobs of {course} wait already and this run has {number}; {most} may wait. "
                "Cancel runs that are not needed, or submit again when jobs have ended"
            )
        known.jobs += number

    def promise(self, course: str, number: int) -> None:
        """Count jobs that will be stored soon, until ``fulfil``."""
        self._promised[course] += number

    def fulfil(self, course: str, number: int) -> None:
        """Stop counting promised jobs, which are stored now, or never will be."""
        self._promised[course] -= number
        if not self._promised[course]:
            del self._promised[course]

    async def _count(self, course: str) -> _Count:
        begun = time.monotonic()
        jobs = await self.jobs.count_backlog(course) + self._promised[course]
        now = time.monotonic()
        return _Count(now, now + max(LIFETIME, SHARE * (now - begun)), jobs)

"""The number of jobs of each course that wait, and its limit."""

import time
from dataclasses import dataclass, field
from typing import Protocol

from broadway.ingest.commands.limits import QuotaError

LIFETIME = 1.0  # seconds for which a count is used again
RETRY_AFTER = 60  # seconds, for clients that met the limit


class BacklogFullError(QuotaError):
    """As many jobs of the course wait as may; a later submission may be accepted."""


class CountedJobs(Protocol):
    """Waiting jobs, by course."""

    async def count_backlog(self, course: str) -> int:
        """Return the number of a course's jobs that are queued."""


@dataclass(slots=True)
class _Count:
    at: float
    jobs: int


@dataclass(frozen=True, slots=True)
class Backlogs:
    """Counts waiting jobs; a count is read from the store at most once per ``LIFETIME`` and course."""

    jobs: CountedJobs
    _counts: dict[str, _Count] = field(default_factory=dict)

    async def demand_room(self, course: str, number: int, *, most: int) -> None:
        """Return if ``number`` further jobs of a course may wait, and count them.

        Raises:
            BacklogFullError: More than ``most`` would wait.
        """
        known = self._counts.get(course)
        if known is None or time.monotonic() - known.at > LIFETIME:
            known = self._counts[course] = _Count(time.monotonic(), await self.jobs.count_backlog(course))
        if known.jobs + number > most:
            raise BacklogFullError(
                f"{known.jobs} jobs of {course} wait already and this run has {number}; {most} may wait. "
                "Cancel runs that are not needed, or submit again when jobs have ended"
            )
        known.jobs += number

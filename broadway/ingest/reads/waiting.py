"""Reads of the places of waiting jobs, with estimates of their waits."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from broadway.domain.job import Job
from broadway.domain.waiting import WaitingKey
from broadway.domain.waiting_time import Pace, Wait, place_in_words, wait_of
from broadway.ingest.reads.jobs import JobReads
from broadway.messages.resources.jobs import QueueView, WaitView
from broadway.runtime.shared_calls import SharedCalls

LIFETIME = 2.0  # seconds for which all readers of a course share a read of its line
MAX_COURSES = 1_000  # that are remembered


class WaitingJobs(Protocol):
    """The waiting jobs of courses."""

    async def waiting_in_course(self, course: str) -> list[WaitingKey]:
        """Return the keys of a course's jobs that wait for their first start, in no order."""


class Lines(WaitingJobs, Protocol):
    """The waiting jobs of courses, and their paces."""

    async def pace(self, course: str, now: datetime) -> Pace:
        """Return the pace of a course: of its running jobs, and of some recent ones of each class."""


@dataclass(frozen=True, slots=True)
class Place:
    """The number of jobs that start before a waiting job, and its wait; None if that is unknown."""

    ahead: int
    wait: Wait | None


@dataclass(frozen=True, slots=True)
class _Line:
    """The waiting jobs of a course with the numbers of jobs ahead of them, at a moment of the monotonic clock."""

    ahead: Mapping[str, int]
    pace: Pace
    read_at: float


class WaitingReads:
    """Reads of the places of jobs that wait for their first start, which are at most ``LIFETIME`` old."""

    def __init__(self, jobs: JobReads, lines: Lines, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs = jobs
        self._lines = lines
        self._clock = clock
        self._calls = SharedCalls(self._read)
        self._known: dict[str, _Line] = {}

    async def place(self, job: Job) -> Place | None:
        """Return the place of a job; None unless it waits for its first start."""
        line = await self._line(job.course)
        ahead = line.ahead.get(job.id)
        if ahead is None:  # it came later, or does not wait
            ahead = await self._jobs.position(job)
        return None if ahead is None else Place(ahead, wait_of(ahead, line.pace))

    async def current_place(self, job: Job) -> Place | None:
        """Return the place of a job whose state may have changed since it was read."""
        ahead = (line := await self._line(job.course)).ahead.get(job.id)
        if ahead is not None:
            return Place(ahead, wait_of(ahead, line.pace))
        current = await self._jobs.jobs.get(job.id)
        return None if current is None else await self.place(current)

    async def wait(self, course: str, ahead: int) -> Wait | None:
        """Return the wait of a job of a course that starts after ``ahead`` others; None if it is unknown."""
        return wait_of(ahead, (await self._line(course)).pace)

    async def _line(self, course: str) -> _Line:
        known = self._known.get(course)
        if known and self._clock() - known.read_at < LIFETIME:
            return known
        return await self._calls.get(course)

    async def _read(self, course: str) -> _Line:
        read_at = self._clock()
        keys = await self._lines.waiting_in_course(course)
        pace = await self._lines.pace(course, datetime.now(UTC))
        line = _Line({key[-1]: index for index, key in enumerate(sorted(keys))}, pace, read_at)
        if len(self._known) >= MAX_COURSES:
            self._known.clear()
        self._known[course] = line
        return line


def queue_view(place: Place) -> QueueView:
    """Return the place of a waiting job."""
    wait = place.wait and WaitView(seconds=round(place.wait.seconds, 1), error=round(place.wait.error, 1))
    return QueueView(ahead=place.ahead, wait=wait, text=place_in_words(place.ahead, place.wait))

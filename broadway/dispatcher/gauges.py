"""Gauges of the active dispatcher: jobs by course and state, slots and graders by pool."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from prometheus_client import Gauge

from broadway.dispatcher.board import Board
from broadway.dispatcher.held import Held
from broadway.dispatcher.ports import BacklogCounts, Backlogs, LetterCount
from broadway.domain.job import Job, JobClass, JobState
from broadway.messages.topology import course_queue
from broadway.ports import StoreError
from broadway.runtime import metrics
from broadway.runtime.isolation import isolated
from broadway.runtime.pacing import spaced

log = structlog.get_logger(__name__)

INTERVAL = 2.0  # seconds between two counts
COUNT_INTERVAL = 10.0  # seconds between two counts of jobs in the store, at least
MOST_READ = 100  # held jobs of a course and class that are skipped when its oldest other one is read
REST = 20  # the pause after a count in the store, as a multiple of its time
_STATES = (JobState.QUEUED, JobState.DISPATCHED, JobState.RUNNING)

Values = Mapping[tuple[str, ...], float]


@dataclass(slots=True)
class Gauges:
    """Sets the gauges while this dispatcher leads, and removes them afterwards, so that one process exports them.

    Args:
        board: The dispatcher's view of jobs and graders.
        pools: Returns the pools that courses use.
        depths: The number of messages that wait in each queue, by its name.
        jobs: The stored jobs. Those of a course are counted there while messages of it wait: they have many jobs each.
        backlogs: The messages of courses that have arrived.
        letters: The stored dead letters.
    """

    board: Board
    pools: Callable[[], Iterable[str]]
    depths: Mapping[str, int]
    jobs: BacklogCounts
    backlogs: Backlogs
    letters: LetterCount
    _queued: dict[str, int] = field(default_factory=dict)  # stored as queued, by course
    _oldest: dict[str, list[Job]] = field(default_factory=dict)  # the oldest of each class that are not held, by course
    _shown: dict[Gauge, set[tuple[str, ...]]] = field(default_factory=dict)

    async def run(self) -> None:
        """Set the gauges every ``INTERVAL`` seconds until cancelled."""
        metrics.LEADING.set(1)
        loop = asyncio.get_running_loop()
        next_count = loop.time()
        try:
            while True:
                if (begun := loop.time()) >= next_count:
                    await self._count_stored()
                    next_count = begun + max(COUNT_INTERVAL, REST * (loop.time() - begun))
                with isolated("gauges"):
                    self.take()
                await asyncio.sleep(INTERVAL)
        finally:
            metrics.LEADING.set(0)
            metrics.DEAD_LETTERS_KEPT.set(0)
            for gauge in self._shown:
                gauge.clear()

    async def _count_stored(self) -> None:
        await self._count()
        with isolated("gauges"):
            try:
                metrics.DEAD_LETTERS_KEPT.set(await self.letters.count())
            except StoreError as error:
                log.warning("dead letters not counted", reason=str(error))

    async def _count(self) -> None:
        """Count the queued jobs of each course with messages that wait, and forget the counts of others."""
        waiting = {course for course in self.board.courses if self._has_messages(course)}
        self._queued = {course: number for course, number in self._queued.items() if course in waiting}
        self._oldest = {course: jobs for course, jobs in self._oldest.items() if course in waiting}
        for course in waiting:
            with isolated("gauges", course=course):
                try:
                    self._queued[course] = await spaced(self.jobs.count_backlog(course))
                    oldest = [await spaced(self._oldest_unheld(course, job_class)) for job_class in JobClass]
                    self._oldest[course] = [job for job in oldest if job]
                except StoreError as error:
                    log.warning("jobs not counted", course=course, reason=str(error))

    async def _oldest_unheld(self, course: str, job_class: JobClass) -> Job | None:
        """Return the oldest queued job that is not held, or None; held jobs may be stored as queued, too.

        The jobs of a course beyond its cap are not held, and would seem not to wait.
        """
        held = sum((each.course, each.job_class) == (course, job_class) for each in self.board.held.values())
        found = await self.jobs.queued(course, job_class, limit=min(held, MOST_READ) + 1)
        return next((job for job in found if job.id not in self.board.held), None)

    def _has_messages(self, course: str) -> bool:
        return any(
            self.depths.get(course_queue(course, job_class).name) or self.backlogs.reading(course, job_class).unopened
            for job_class in JobClass
        )

    def take(self) -> None:
        """Set the gauges once. It iterates over all held jobs and needs no I/O."""
        open_jobs = [held for held in self.board.held.values() if not held.settled.is_set()]
        graders, running = self.board.graders(), Counter(held.pool for held in open_jobs if held.has_started)
        pools, idle = {*self.pools(), *graders, *running}, self.board.graders_without_slots()
        self._show(metrics.JOBS, self._jobs(open_jobs))
        self._show(metrics.QUEUE_READY, {(name,): depth for name, depth in self.depths.items()})
        self._show(metrics.GRADERS, {(pool,): graders[pool] for pool in pools})
        self._show(metrics.GRADERS_WITHOUT_SLOTS, {(pool,): idle[pool] for pool in pools})
        self._show(metrics.OLDEST_JOB_SECONDS, self._waits(open_jobs, datetime.now(UTC)))
        self._show(metrics.SLOTS, {(pool,): self.board.slots(pool) for pool in pools})
        self._show(metrics.SLOTS_USED, {(pool,): running[pool] for pool in pools})

    def _jobs(self, open_jobs: Iterable[Held]) -> Values:
        held = Counter((job.course, _state(job)) for job in open_jobs)
        unrecorded = Counter(job.course for job in open_jobs if job.in_flight and job.latest.state is JobState.QUEUED)
        for course, stored in self._queued.items():
            held[course, JobState.QUEUED] = max(held[course, JobState.QUEUED], stored - unrecorded[course])
        courses = {*self.board.courses, *(course for course, _ in held)}
        return {(course, state): held[course, state] for course in courses for state in _STATES}

    def _waits(self, open_jobs: Iterable[Held], now: datetime) -> Values:
        """Return the longest waiting time of the jobs of each course, pool and class; those that run count as 0."""
        found: dict[tuple[str, ...], float] = {}
        unheld = (job for jobs in self._oldest.values() for job in jobs if job.id not in self.board.held)
        for job, waits in (
            *((held.latest, not held.in_flight) for held in open_jobs),
            *((job, True) for job in unheld),
        ):
            key = job.course, job.pool, job.job_class.value
            seconds = max(0.0, (now - job.queued_at).total_seconds()) if waits else 0.0
            found[key] = max(found.get(key, 0.0), seconds)
        return found

    def _show(self, gauge: Gauge, values: Values) -> None:
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
        for gone in self._shown.get(gauge, set()) - values.keys():
            gauge.remove(*gone)
        self._shown[gauge] = set(values)


def _state(held: Held) -> JobState:
    if not held.in_flight:
        return JobState.QUEUED
    return JobState.RUNNING if held.has_started else JobState.DISPATCHED

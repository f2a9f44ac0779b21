"""Gauges of the active dispatcher: jobs by course and state, slots and graders by pool."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client import Gauge

from broadway.dispatcher.board import Board, Held
from broadway.domain.job import JobClass, JobState
from broadway.messages.topology import course_queue
from broadway.runtime import metrics
from broadway.runtime.isolation import isolated

INTERVAL = 2.0  # seconds between two counts
_STATES = (JobState.QUEUED, JobState.DISPATCHED, JobState.RUNNING)

Values = Mapping[tuple[str, ...], float]


@dataclass(slots=True)
class Gauges:
    """Sets the gauges while this dispatcher leads, and removes them afterwards, so that one process exports them.

    Args:
        board: The dispatcher's view of jobs and graders.
        pools: Returns the pools that courses use.
        depths: The number of messages that wait in each queue, by its name.
    """

    board: Board
    pools: Callable[[], Iterable[str]]
    depths: Mapping[str, int]
    _shown: dict[Gauge, set[tuple[str, ...]]] = field(default_factory=dict)

    async def run(self) -> None:
        """Set the gauges every ``INTERVAL`` seconds until cancelled."""
        metrics.LEADING.set(1)
        try:
            while True:
                with isolated("gauges"):
                    self.take()
                await asyncio.sleep(INTERVAL)
        finally:
            metrics.LEADING.set(0)
            for gauge in self._shown:
                gauge.clear()

    def take(self) -> None:
        """Set the gauges once. It iterates over all held jobs and needs no I/O."""
        open_jobs = [held for held in self.board.held.values() if not held.settled.is_set()]
        graders, running = self.board.graders(), Counter(held.pool for held in open_jobs if held.has_started)
        pools = {*self.pools(), *graders, *running}
        self._show(metrics.JOBS, self._jobs(open_jobs))
        self._show(metrics.QUEUE_READY, {(name,): depth for name, depth in self.depths.items()})
        self._show(metrics.GRADERS, {(pool,): graders[pool] for pool in pools})
        self._show(metrics.SLOTS, {(pool,): self.board.slots(pool) for pool in pools})
        self._show(metrics.SLOTS_USED, {(pool,): running[pool] for pool in pools})

    def _jobs(self, open_jobs: Iterable[Held]) -> Values:
        held = Counter((job.course, _state(job)) for job in open_jobs)
        backlog = {course: self._backlog(course) for course in {*self.board.courses, *(course for course, _ in held)}}
        return {
            (course, state): held[course, state] + (waiting if state is JobState.QUEUED else 0)
            for course, waiting in backlog.items()
            for state in _STATES
        }

    def _backlog(self, course: str) -> int:
        """Return the number of a course's jobs that wait in its queues and are not held."""
        return sum(self.depths.get(course_queue(course, job_class).name, 0) for job_class in JobClass)

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

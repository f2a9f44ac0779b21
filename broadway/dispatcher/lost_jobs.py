"""Find queued jobs that are in no queue, and publish them again.

A course queue counts messages, and each of them may have many jobs. So its messages may hide lost jobs, until all of
those that waited at some moment have been opened: a job that was queued at that moment and is not held then is lost.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from broadway.dispatcher.board import Board
from broadway.dispatcher.patience import PATIENCE, Patience
from broadway.dispatcher.ports import Backlogs, ObservedBroker, ReconciledJobs, ReconciledRuns
from broadway.domain.job import Job, JobClass, JobState
from broadway.lifecycle.outbox import publish_queued
from broadway.messages.batches import JobsQueued
from broadway.messages.topology import course_queue
from broadway.runtime import metrics

log = structlog.get_logger(__name__)

LIMIT = 1000  # jobs of one course published again at a time
DEEP = 5000  # jobs of a course: counting them takes long, and the queue has work for long

Backlog = tuple[str, JobClass]


@dataclass(frozen=True, slots=True)
class _Check:
    """The time of a backlog's last check, or of the first skipped check, and the number of its queued jobs then."""

    at: float
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class _Line:
    """A moment, and the number of messages that must be opened until all that waited then are.

    ``epoch`` is the consumer's that opens them. Jobs of the runs ``unless_of`` were being published then.
    """

    at: datetime
    epoch: int
    until: int
    unless_of: frozenset[str]


@dataclass(slots=True)
class LostJobs:
    """Compares the queued jobs of courses with the held jobs and with the messages of the courses' queues."""

    board: Board
    jobs: ReconciledJobs
    runs: ReconciledRuns
    broker: ObservedBroker
    backlogs: Backlogs
    patience: Patience = PATIENCE
    _suspected: dict[Backlog, float] = field(default_factory=dict)  # backlogs that miss jobs, since when
    _checks: dict[Backlog, _Check] = field(default_factory=dict)
    _lines: dict[Backlog, _Line] = field(default_factory=dict)

    async def look_again(self) -> None:
        """Check the backlogs that missed jobs at their last check."""
        await self.find(list(self._suspected))

    async def find(self, backlogs: Sequence[Backlog]) -> None:
        """Publish jobs again that are in no queue, after two checks with some time between them found them missing."""
        now = time.monotonic()
        due = [each for each in backlogs if self._suspected.get(each, -math.inf) <= now - self.patience.second_look]
        if not due:
            return
        unpublished = await self.runs.unpublished(datetime.max.replace(tzinfo=UTC), limit=LIMIT)
        for backlog in due:
            in_transit = frozenset(run.id for run in unpublished if run.course == backlog[0])
            earlier = self._checks.setdefault(backlog, _Check(now))
            is_busy = bool(in_transit) or earlier.jobs > DEEP
            if is_busy and backlog not in self._suspected and now < earlier.at + self.patience.busy:
                continue
            self._checks[backlog] = _Check(now)
            lost, waiting = await self._missing(backlog, in_transit)
            self._checks[backlog] = _Check(now, waiting)
            if not lost:
                self._suspected.pop(backlog, None)
            elif backlog not in self._suspected:
                self._suspected[backlog] = now
            else:
                await self._publish(backlog, lost)
                del self._suspected[backlog]
                self._lines.pop(backlog, None)

    async def _missing(self, backlog: Backlog, in_transit: frozenset[str]) -> tuple[list[Job], int]:
        """Return jobs that are certainly, or probably, in no queue, and the number of a backlog's queued jobs.

        Jobs of runs that are being published, ``in_transit``, do not count as missing. Each of their messages in the
        queue hides missing jobs until it is opened.
        """
        waiting = await self.jobs.count_queued(*backlog, unless_of=[*in_transit])
        beyond = waiting - self._count_held(backlog, in_transit) if waiting else 0
        if beyond <= 0:
            self._lines.pop(backlog, None)
            return [], waiting
        reading = self.backlogs.reading(*backlog)
        messages = await self.broker.depth(course_queue(*backlog)) + reading.unopened
        if beyond > messages * JobsQueued.most:
            return await self._not_held(backlog, in_transit), waiting
        line = self._lines.get(backlog)
        if line is None or line.epoch != reading.epoch:
            self._lines[backlog] = _Line(datetime.now(UTC), reading.epoch, reading.opened + messages, in_transit)
        elif reading.opened >= line.until:
            lost = [
                job for job in await self._not_held(backlog, in_transit | line.unless_of) if job.queued_at < line.at
            ]
            if not lost:
                del self._lines[backlog]
            return lost, waiting
        return [], waiting

    def _count_held(self, backlog: Backlog, unless_of: frozenset[str]) -> int:
        """Return how many jobs of a backlog are held and may be stored as queued."""
        return sum(
            (held.course, held.job_class) == backlog
            and held.run_id not in unless_of
            and (not held.in_flight or held.latest.state is JobState.QUEUED)
            for held in self.board.held.values()
        )

    async def _not_held(self, backlog: Backlog, unless_of: frozenset[str]) -> list[Job]:
        limit = LIMIT + self._count_held(backlog, frozenset())
        queued = await self.jobs.queued(*backlog, limit=limit, unless_of=[*unless_of])
        return [job for job in queued if job.id not in self.board.held][:LIMIT]

    async def _publish(self, backlog: Backlog, lost: Sequence[Job]) -> None:
        due = await self._due(lost, datetime.now(UTC))
        metrics.REPAIRS.labels(metrics.Repair.BACKLOG).inc(len(due))
        log.warning("repair: queued jobs are in no queue", course=backlog[0], missing=len(lost), published=len(due))
        await publish_queued(due, publisher=self.broker)

    async def _due(self, queued: Sequence[Job], now: datetime) -> list[Job]:
        """Return the jobs whose phase is their run's present phase; cancel the jobs of runs that have ended.

        Other jobs belong to a step that an order has overtaken.
        """
        runs = {run_id: await self.runs.summary(run_id) for run_id in {job.run_id for job in queued}}
        ended = {run_id for run_id, run in runs.items() if run is None or run.state.is_terminal}
        await self.jobs.move(
            {job.id: lambda job: job.cancel("the run is over", now) for job in queued if job.run_id in ended}
        )
        phases = {run_id: run.phase for run_id, run in runs.items() if run and run_id not in ended}
        return [job for job in queued if phases.get(job.run_id) is job.phase]

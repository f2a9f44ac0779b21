"""Publish jobs to the graders of their pools.

A job that is handed over stays QUEUED in the store until a grader's start or outcome is recorded: only the active
dispatcher knows that it is on its way. So a dispatcher that takes over hands it over once more. Before its first job
of a pool it therefore discards the messages that no grader of the pool has taken: their jobs are in the backlogs.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from broadway.dispatcher.board import Board
from broadway.dispatcher.ports import HandedOverJobs, ReadyQueues
from broadway.domain.job import Job, JobState
from broadway.domain.spans import of_backlog
from broadway.lifecycle.stores import Stages
from broadway.messages.events import JobDispatched, ids_of
from broadway.messages.ticket import Tickets
from broadway.messages.topology import JOBS, ready_key, ready_queue
from broadway.ports import PublishError
from broadway.runtime import tracing
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

_UNTAKEN = (JobState.QUEUED, JobState.DISPATCHED)


@dataclass(frozen=True, slots=True)
class HandOver:
    """Hands jobs over while one process leads.

    Args:
        board: The held jobs.
        jobs: The stored jobs.
        broker: The broker.
        tickets: Makes the tickets of the jobs.
    """

    board: Board
    jobs: HandedOverJobs
    broker: ReadyQueues
    tickets: Tickets
    _emptied: set[str] = field(default_factory=set)
    _emptying: asyncio.Lock = field(default_factory=asyncio.Lock)  # a second discard could lose what was handed over

    async def publish(self, job_ids: Sequence[str], pool: str) -> None:
        """Publish jobs of a pool with their stages, in order, unless they have moved on in the store.

        The reconciler publishes jobs again that the broker refuses.

        Raises:
            StoreError: The store is unavailable; no job was published.
            PublishError: The broker is unavailable; no job was published.
        """
        if not job_ids:
            return
        await self._empty(pool)
        found = await self.jobs.with_stages(job_ids)
        await reach(Point.DISPATCH_STAGES_READ)
        for held in [self.board.held[job_id] for job_id in job_ids if job_id in self.board.held]:
            if held.job_id not in found:
                self.board.abandon(held)
        due = list(self._due(found, job_ids))
        await asyncio.gather(*(self._publish_alone(job, stages) for job, stages in due))
        await reach(Point.DISPATCH_HANDED_OVER)

    async def _empty(self, pool: str) -> None:
        """Discard what an earlier dispatcher left in the ready queue of a pool."""
        async with self._emptying:
            if pool in self._emptied:
                return
            if discarded := await self.broker.purge(ready_queue(pool)):
                log.info("jobs of an earlier dispatcher are handed over again", pool=pool, jobs=discarded)
            await reach(Point.LEAD_EMPTIED)
            self._emptied.add(pool)

    def _due(self, found: Mapping[str, tuple[Job, Stages]], job_ids: Sequence[str]) -> Iterator[tuple[Job, Stages]]:
        """Yield the jobs that are still on their way by the store, and note on the board that they are."""
        now = datetime.now(UTC)
        for job, stages in [found[job_id] for job_id in job_ids if job_id in found]:
            self.board.observe(job, now=now)
            if job.state in _UNTAKEN and self.board.hand_over(job):
                yield job, stages

    async def _publish_alone(self, job: Job, stages: Stages) -> None:
        """Publish a job; an error about it does not keep others from their graders."""
        with isolated("dispatch", **job.context):
            await self._publish(job, stages)

    async def _publish(self, job: Job, stages: Stages) -> None:
        event = JobDispatched(
            **ids_of(job),
            assignment=job.assignment,
            phase=job.phase,
            attempt=job.starts + 1,
            stages=stages,
            avoid=job.avoid,
            ticket=self.tickets.of(job.id, job.generation),
        )
        try:
            await self.broker.publish(JOBS, ready_key(job.pool), event)
        except PublishError as error:
            log.warning("job not handed over", pool=job.pool, error=str(error), **job.context)
            return
        if tracing.is_on():
            tracing.export(of_backlog(job, datetime.now(UTC)))

"""Reports of graders on jobs that other graders run.

The broker delivers a job to a second grader once the first one's connection has gone. A grader that reports on a job
while the first grader is connected and runs it was not given the job, or has given it back: its report changes nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from broadway.domain.job import Job
from broadway.domain.moves import Moved
from broadway.lifecycle.follow_ups import unwanted
from broadway.lifecycle.recording import Recorder, record_what_can_be
from broadway.lifecycle.stores import GradersById
from broadway.messages.events import Event, JobFinished, JobStarted
from broadway.messages.topology import Queue, control_queue
from broadway.ports import Publisher, PublishError, Retry, StoreError, refusal
from broadway.runtime import metrics
from broadway.runtime.metrics import Refusal

log = structlog.get_logger(__name__)

CHECK_INTERVAL = 0.25  # seconds
# Seconds until a contested report is refused. The broker may redeliver a job before it removes the queue of the grader
# that has gone, and a grader that has been restarted takes a while to its first heartbeat.
REFUSE_AFTER = 10.0

Record = Callable[[Event], Awaitable[Moved | None]]


class TakenQueues(Publisher, Protocol):
    """The operations on the broker that contests need."""

    async def is_taken(self, queue: Queue) -> bool:
        """Return whether an exclusive queue exists, which only its connection may use.

        Raises:
            PublishError: The broker is unavailable.
        """


@dataclass(frozen=True, slots=True)
class Contests:
    """Records contested reports of graders that have been given the job, and refuses those of others."""

    recorder: Recorder
    graders: GradersById
    broker: TakenQueues

    async def record(self, event: Event, record: Record) -> None:
        """Record an event with ``record``, at once if it is not contested.

        Raises:
            Reject: The store refuses the event.
            Retry: The store or the broker is unavailable.
        """
        deadline = time.monotonic() + REFUSE_AFTER
        while True:
            moved = await record(event)
            if moved is None or not _is_contested(event, moved):
                return
            if not await self._is_held(moved.after):
                log.info("a job has moved to another grader", before=moved.after.grader_id, **event.context)
                await record_what_can_be(event, self._displace, refusal=refusal)
                return
            if time.monotonic() > deadline:
                await self._refuse(event, moved.after)
                return
            await asyncio.sleep(CHECK_INTERVAL)

    async def _displace(self, event: Event) -> None:
        try:
            await self.recorder.record([event], displaces=True)
        except (StoreError, PublishError) as error:
            if refusal(error):
                raise
            raise Retry(str(error)) from error

    async def _is_held(self, job: Job) -> bool:
        """Return whether the grader that runs a job is connected and, by its last heartbeat, still runs the job."""
        holder, now = job.grader_id or "", datetime.now(UTC)
        if job.lease_expires_at is None or job.lease_expires_at <= now:
            return False
        try:
            grader = await self.graders.get(holder)
            if grader is None:
                return False
            if grader.gateway:  # its jobs' messages are acknowledged, so they are not delivered again
                return grader.alive
            if not await self.broker.is_taken(control_queue(holder)):
                return False
        except (StoreError, PublishError) as error:
            raise Retry(str(error)) from error
        started = next((a.started_at for a in job.attempts if a.execution_id == job.execution_id), None)
        is_heard = started is not None and grader.sent_at is not None and grader.sent_at > started  # by its own clock
        return job.id in grader.reported_jobs or not is_heard

    async def _refuse(self, event: Event, job: Job) -> None:
        log.warning("report on a job that another grader runs", event_type=event.type, **event.context)
        metrics.OUTCOMES_REFUSED.labels(Refusal.UNKNOWN).inc(isinstance(event, JobFinished))
        if isinstance(event, JobStarted):
            try:
                await self.broker.publish(*unwanted(job, event.grader_id, event.generation))
            except PublishError as error:
                log.warning("a grader not told to stop", reason=str(error), **event.context)


def _is_contested(event: Event, moved: Moved) -> bool:
    """Return whether an event was not recorded because another grader runs its job."""
    job = moved.after
    return (
        (isinstance(event, JobStarted) or (isinstance(event, JobFinished) and not event.outcome.is_order))
        and event.generation == job.generation
        and not job.knows(event.execution_id)
        and job.is_contested_by(event.grader_id)
    )

"""Handing jobs out to graders behind the gateway.

A job is stored as started before its grader gets it, and then its message is acknowledged. From then on the job's lease
protects it; the grader's heartbeats renew the lease through any API process.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import structlog

from broadway.domain.abilities import abilities_of, missing, needed
from broadway.domain.assignment import ALLOWANCE, longest_run
from broadway.domain.grader import Grader
from broadway.domain.job import Job, JobState, RetryPolicy
from broadway.ingest.gateway.changes import JobChanges
from broadway.ingest.gateway.ports import GatewayGraders, GatewayJobs, MessageTake, TakenMessage, TakingBroker
from broadway.ingest.gateway.results import Results
from broadway.lifecycle.recording import Recorder
from broadway.messages.events import JobDispatched, JobStarted, ids_of
from broadway.messages.topology import JOBS, event_key, ready_key, ready_queue
from broadway.ports import PublishError, StoreError

log = structlog.get_logger(__name__)

MAX_DEFERRALS = 3  # of a job by graders that it should avoid
DEFERRAL_PAUSE = 0.2  # seconds
# Keys of a stage that the original does not know.
OUR_KEYS = ("untrusted", "read", "write", "inherit", "results", "artifacts", "tty")
STORE_PAUSE = 1.0  # seconds before the next try while the store is unavailable


@dataclass(frozen=True, slots=True)
class Handout:
    """A job that is handed to a grader, in the form of its protocol."""

    job_id: str
    execution_id: str
    stages: list[dict[str, Any]]
    course: str = ""  # only for graders of ours: the original's get its own two keys

    @property
    def message(self) -> dict[str, Any]:
        named = {"course": self.course} if self.course else {}
        return {"grading_job_id": self.job_id, "stages": self.stages, **named}


@dataclass(frozen=True, slots=True)
class Handouts:
    """Takes jobs from the broker for graders that cannot reach it."""

    graders: GatewayGraders
    jobs: GatewayJobs
    broker: TakingBroker
    recorder: Recorder
    results: Results
    changes: JobChanges
    policy: RetryPolicy
    broker_pause: float = 0.2  # seconds before the next try while the broker is unavailable

    async def poll(self, grader: Grader, *, wait: float, patience: float) -> Handout | None:
        """Take a job, or return None if there is no job in time.

        The time is ``wait`` seconds, but at least ``patience`` while any job of the pool waits for a grader. A
        connection that the broker closes meanwhile is opened again.

        Raises:
            PublishError: The broker was still unavailable when the time was over.
        """
        await self.graders.seen(grader, datetime.now(UTC))
        if not grader.is_wanted:
            return None
        within = max(wait, patience) if await self.jobs.are_any_waiting(grader.pool) else wait
        clock = asyncio.get_running_loop().time
        deadline = clock() + within
        while (remaining := deadline - clock()) > 0:
            try:
                async with self.open(grader, tag=f"http-grader@{grader.id}") as jobs:
                    return await self.take(grader, jobs, within=remaining)
            except PublishError as error:
                if clock() + self.broker_pause >= deadline:
                    raise
                log.info("poll continues after a failure of the broker", grader=grader.id, reason=str(error))
                await asyncio.sleep(self.broker_pause)
        return None

    def open(self, grader: Grader, *, tag: str) -> AbstractAsyncContextManager[MessageTake]:
        """Open the queue of a grader's pool for taking jobs; ``tag`` names the consumer at the broker.

        Raises:
            PublishError: The broker is unavailable.
        """
        return self.broker.single_take(ready_queue(grader.pool), tag=tag)

    async def take(self, grader: Grader, jobs: MessageTake, *, within: float | None = None) -> Handout | None:
        """Take the next job for a grader and store it as started; return None if there was no job in time.

        Raises:
            PublishError: The broker is unavailable.
        """
        deadline = None if within is None else asyncio.get_running_loop().time() + within
        while True:
            remaining = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
            taken = await jobs.take(within=remaining)
            if taken is None:
                return None
            try:
                handout = await self._hand_out_when_stored(grader, taken)
            except BaseException:
                await taken.give_back()
                raise
            await taken.ack()
            if handout is not None:
                return handout

    async def put_back(self, grader: Grader, handout: Handout) -> None:
        """Requeue the job of a handout that has not reached its grader; its start does not count."""
        await self.changes.put_back(grader, [(handout.job_id, handout.execution_id)])

    async def _hand_out_when_stored(self, grader: Grader, taken: TakenMessage) -> Handout | None:
        """Hand out a job, and keep its message while the store is unavailable: a return would count as a delivery."""
        while True:
            try:
                return await self._hand_out(grader, taken)
            except StoreError as error:
                log.warning("job not handed out", grader=grader.id, reason=str(error))
                await asyncio.sleep(STORE_PAUSE)

    async def _hand_out(self, grader: Grader, taken: TakenMessage) -> Handout | None:
        """Hand out a job; return None if the message is outdated, or the job is kept for another grader."""
        event = taken.event
        if not isinstance(event, JobDispatched):
            log.error("not a job", event_type=event.type)
            return None
        if grader.id in event.avoid and event.deferrals < MAX_DEFERRALS:
            await self._defer(event, grader)
            return None
        job = await self.jobs.get(event.job_id)
        if job is None or job.generation != event.generation or not _is_due(job):
            log.info("job has moved on", grader=grader.id, **event.context)
            return None
        if lacking := missing(needed(event.stages), abilities_of(grader)):
            await self._refuse(job, grader, lacking)
            return None
        return await self._start(grader, job, event)

    async def _refuse(self, job: Job, grader: Grader, lacking: Sequence[str]) -> None:
        """Keep a job from a grader that would run it wrongly: it waits for another one."""
        until = datetime.now(UTC) + max(self.policy.backoff, timedelta(seconds=DEFERRAL_PAUSE))
        log.info("job kept for another grader", grader=grader.id, lacking=lacking, **job.context)
        await self.changes.apply({job.id: lambda stored: stored.decline(job.generation, until)})

    async def _defer(self, event: JobDispatched, grader: Grader) -> None:
        await asyncio.sleep(DEFERRAL_PAUSE)
        again = event.model_copy(update={"deferrals": event.deferrals + 1})
        await self.broker.publish(JOBS, ready_key(grader.pool), again)

    async def _start(self, grader: Grader, job: Job, event: JobDispatched) -> Handout | None:
        now, stages = datetime.now(UTC), event.stages
        started = JobStarted(
            **ids_of(job),
            execution_id=token_hex(12),
            grader_id=grader.id,
            started_at=now,
            deadline=now + timedelta(seconds=longest_run(stages)) + ALLOWANCE,
            redelivered=event.redelivered,
        )
        moved = (await self.recorder.record([started])).get(job.id)
        if moved is None or moved.after.is_terminal or moved.after.execution_id != started.execution_id:
            return None  # one start too many has ended it
        await self.graders.hand_out(grader.id, job.id)
        await self.changes.publish(event_key("job", "started", job.course), started)
        log.info("job handed out", grader=grader.id, execution=started.execution_id, **job.context)
        if grader.extended:
            return Handout(job.id, started.execution_id, stages, job.course)
        return Handout(job.id, started.execution_id, _as_the_originals(stages))


def _is_due(job: Job) -> bool:
    """Return whether a grader may start a job: none has it, and no pause before its next attempt is left."""
    is_paused = job.not_before is not None and job.not_before > datetime.now(UTC)
    return job.state in (JobState.QUEUED, JobState.DISPATCHED) and not is_paused


def _as_the_originals(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return stages without the keys that the original's graders do not know; any value of ``logs`` breaks them."""
    return [{key: value for key, value in stage.items() if key not in ("logs", *OUR_KEYS)} for stage in stages]

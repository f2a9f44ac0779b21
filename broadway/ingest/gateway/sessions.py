"""The gateway: graders that cannot reach the broker take jobs from it all the same, and report to it, through here.

A job that is handed out is stored as started before its grader hears of it, and its message is acknowledged then: from
there on the job's lease, renewed by the grader's heartbeats, is what it hangs by, whichever API process they reach.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any, Protocol

import structlog

from broadway.domain.assignment import ALLOWANCE, longest_run
from broadway.domain.job import Attempt, FaultPhase, Job, JobState, Move, Moved, Outcome, RetryPolicy
from broadway.ingest.gateway.verdicts import judge
from broadway.lifecycle.announce import Later, announce
from broadway.lifecycle.follow_ups import following
from broadway.lifecycle.phases import advance
from broadway.lifecycle.recording import UNUSED, Recorder, record_what_can_be
from broadway.lifecycle.steps import PhaseJobs, RunSteps, Step
from broadway.messages.events import (
    Event,
    GraderHeartbeat,
    GraderMode,
    JobDispatched,
    JobFinished,
    JobReleased,
    JobStarted,
    RunningJob,
    ids_of,
)
from broadway.messages.http import JobResult
from broadway.messages.topology import EVENTS, JOBS, event_key, ready_key, ready_queue
from broadway.mongo.workers import Attached
from broadway.ports import PublishError, Reject, StoreError, refusal
from broadway.rabbit.client import Rabbit
from broadway.rabbit.single_take import SingleTake, Taken
from broadway.runtime import metrics
from broadway.runtime.metrics import Refusal

log = structlog.get_logger(__name__)

SILENT_INTERVALS = 2  # without a heartbeat, and a grader is dead
MAX_DEFERRALS = 3  # of a job that would rather run elsewhere
DEFERRAL_PAUSE = 0.2  # seconds
OUR_KEYS = ("untrusted", "read", "write", "inherit", "results")  # of a stage, which the original has not
STORE_PAUSE = 1.0  # seconds before a store that is away is asked again

JOB_NOT_FOUND = "job with the given ID not found"
NOT_STARTED = "cannot update job that is not in STARTED state"
NOT_HELD = "job is held by another worker"


class UnwantedResultError(Exception):
    """A result that cannot be taken; the text says why, as the original does."""


class Workers(Protocol):
    """The part of the grader store that the gateway needs."""

    async def register(self, worker: Attached) -> bool: ...
    async def attached(self, worker_id: str) -> Attached | None: ...
    async def seen(self, worker: Attached, now: datetime) -> None: ...
    async def hand_out(self, worker_id: str, job_id: str) -> None: ...
    async def take_back(self, worker_id: str, job_ids: Sequence[str]) -> None: ...
    async def mark_dead(
        self, worker_id: str, *, session: str | None = None, silent_since: datetime | None = None
    ) -> bool: ...
    async def is_any_extended(self, pool: str) -> bool: ...
    async def silent_attached(self, moment: datetime) -> list[Attached]: ...
    async def mark_sockets_dead(self, gateway: str) -> None: ...


class Jobs(PhaseJobs, Protocol):
    """The part of the job store that the gateway needs."""

    async def get(self, job_id: str) -> Job | None: ...
    async def stages(self, job_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]: ...
    async def move(self, moves: Mapping[str, Move]) -> dict[str, Moved]: ...
    async def held_by(self, worker_id: str) -> list[Job]: ...
    async def are_any_waiting(self, pool: str) -> bool: ...
    async def renew_leases(
        self, execution_ids: Sequence[str], job_ids: Sequence[str], until: datetime, *, unless_after: datetime
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Handout:
    """A job in the hands of a grader, as its protocol has it."""

    job_id: str
    execution_id: str
    stages: list[dict[str, Any]]

    @property
    def message(self) -> dict[str, Any]:
        return {"grading_job_id": self.job_id, "stages": self.stages}


@dataclass(frozen=True, slots=True)
class Gateway:
    """One API process's part in the life of graders that speak HTTP or WebSocket.

    Args:
        name: This process, by a name that it will have again after a restart.
        interval: Seconds between heartbeats.
        later: Runs what an answer need not wait for.
    """

    name: str
    workers: Workers
    jobs: Jobs
    runs: RunSteps
    rabbit: Rabbit
    recorder: Recorder
    interval: int
    lease: timedelta
    policy: RetryPolicy
    later: Later

    @property
    def patience(self) -> timedelta:
        """How long a grader may be silent."""
        return timedelta(seconds=SILENT_INTERVALS * self.interval)

    async def run(self) -> None:
        """Look for graders that have gone silent, until cancelled."""
        await self.workers.mark_sockets_dead(self.name)
        # What was said while no process listened has not been heard: everybody gets their time anew.
        await asyncio.sleep(self.patience.total_seconds())
        while True:
            await asyncio.sleep(self.interval)
            try:
                await self._sweep(datetime.now(UTC) - self.patience)
            except StoreError as error:
                log.warning("silent graders not looked for", reason=str(error))

    async def _sweep(self, moment: datetime) -> None:
        for worker in await self.workers.silent_attached(moment):
            if await self.workers.mark_dead(worker.id, silent_since=moment):
                log.warning("grader has gone silent", grader=worker.id)
                await self._requeue_jobs_of(worker)

    async def register(
        self,
        worker_id: str,
        *,
        hostname: str,
        pool: str,
        over_socket: bool,
        extended: bool,
        runtime: str = "",
        running: Sequence[str] = (),
    ) -> Attached | None:
        """Take a grader on; None while another one of that id lives.

        ``running`` are jobs that it still runs since an earlier session; its own, if they have not moved on.
        """
        now = _stored(datetime.now(UTC))
        resumed = [job for job in await self.jobs.held_by(worker_id) if job.id in running] if running else []
        worker = Attached(
            id=worker_id,
            hostname=hostname,
            alive=True,
            last_seen=now,
            registered_at=min([now, *(a.started_at for job in resumed for a in job.attempts)]),
            pool=pool,
            session=token_hex(8),
            over_socket=over_socket,
            gateway=self.name,
            extended=extended,
            runtime=runtime,
        )
        if not await self.workers.register(worker):
            return None
        log.info("grader registered", grader=worker_id, hostname=hostname, pool=pool, over_socket=over_socket)
        for job in resumed:
            await self.workers.hand_out(worker_id, job.id)
        await self.beat(worker)
        return worker

    async def known(self, worker_id: str) -> Attached | None:
        """A grader on record, alive or not."""
        return await self.workers.attached(worker_id)

    async def beat(self, worker: Attached) -> None:
        """A grader lives, and so do the jobs that it was given since it registered and that have time left."""
        now = datetime.now(UTC)
        await self.workers.seen(worker, now)
        held = [job for job in await self.jobs.held_by(worker.id) if _is_under_way(job, worker, now)]
        if held:
            executions = [job.execution_id for job in held if job.execution_id]
            until = now + self.lease
            unless_after = until - self.lease * UNUSED
            await self.jobs.renew_leases(executions, [job.id for job in held], until, unless_after=unless_after)
        await self._tell_of(worker, held)

    async def poll(self, worker: Attached, *, wait: float, patience: float) -> Handout | None:
        """A job, if there is one: jobs that wait already are waited for ``patience`` seconds, others ``wait``."""
        await self.workers.seen(worker, datetime.now(UTC))
        if worker.mode is not GraderMode.ONLINE:
            return None
        within = max(wait, patience) if await self.jobs.are_any_waiting(worker.pool) else wait
        if within <= 0:
            return None
        async with self.rabbit.single_take(ready_queue(worker.pool), tag=f"http-grader@{worker.id}") as taker:
            return await self.take(worker, taker, within=within)

    async def take(self, worker: Attached, taker: SingleTake, *, within: float | None = None) -> Handout | None:
        """The next job for a grader, stored as started; None when none came in time.

        Raises:
            PublishError: The broker is away.
        """
        deadline = None if within is None else asyncio.get_running_loop().time() + within
        while True:
            left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
            taken = await taker.take(within=left)
            if taken is None:
                return None
            try:
                handout = await self._hand_out_patiently(worker, taken)
            except BaseException:
                await taken.give_back()
                raise
            await taken.ack()
            if handout is not None:
                return handout

    async def _hand_out_patiently(self, worker: Attached, taken: Taken) -> Handout | None:
        """While the store is away the message is kept: giving it back would count against the delivery limit."""
        while True:
            try:
                return await self._hand_out(worker, taken)
            except StoreError as error:
                log.warning("job not handed out", grader=worker.id, reason=str(error))
                await asyncio.sleep(STORE_PAUSE)

    async def _hand_out(self, worker: Attached, taken: Taken) -> Handout | None:
        """None for a message that is out of date, or that another grader should rather get."""
        event = taken.event
        if not isinstance(event, JobDispatched):
            log.error("not a job", event_type=event.type)
            return None
        if worker.id in event.avoid and event.deferrals < MAX_DEFERRALS:
            await self._defer(event, worker)
            return None
        job = await self.jobs.get(event.job_id)
        if job is None or job.generation != event.generation or job.state is not JobState.DISPATCHED:
            log.info("job has moved on", grader=worker.id, **event.context)
            return None
        if not worker.extended and (unknown := _unknown_to_the_originals(event.stages)):
            await self._refuse(worker, job, f"the graders of pool {worker.pool} do not know {unknown}")
            return None
        return await self._start(worker, job, event.stages)

    async def _refuse(self, worker: Attached, job: Job, reason: str) -> None:
        """Keep a job from a grader that would run it wrongly.

        While one lives that can run it, the job waits for that one. Otherwise this is a failed attempt, and the last
        one ends it.
        """
        now = datetime.now(UTC)
        if await self.workers.is_any_extended(worker.pool):
            log.info("job kept for another grader", grader=worker.id, reason=reason, **job.context)
            until = now + max(self.policy.backoff, timedelta(seconds=DEFERRAL_PAUSE))
            await self._move({job.id: lambda stored: stored.decline(job.generation, until)})
            return
        fault = f"{FaultPhase.CREATE}: {reason}"
        finished = JobFinished(
            **ids_of(job),
            execution_id=token_hex(12),
            grader_id=worker.id,
            started_at=now,
            finished_at=now,
            outcome=Outcome.INFRASTRUCTURE_ERROR,
            reason=fault,
            fault_phase=FaultPhase.CREATE,
            retryable=True,
            results=[{"success": False}],
            stderr=reason,
        )
        await self._record(worker, job, finished)

    async def _defer(self, event: JobDispatched, worker: Attached) -> None:
        await asyncio.sleep(DEFERRAL_PAUSE)
        again = event.model_copy(update={"deferrals": event.deferrals + 1})
        await self.rabbit.publish(JOBS, ready_key(worker.pool), again)

    async def _start(self, worker: Attached, job: Job, stages: list[dict[str, Any]]) -> Handout | None:
        now = datetime.now(UTC)
        started = JobStarted(
            **ids_of(job),
            execution_id=token_hex(12),
            grader_id=worker.id,
            started_at=now,
            deadline=now + timedelta(seconds=longest_run(stages)) + ALLOWANCE,
        )
        moved = (await self.recorder.record([started])).get(job.id)
        if moved is None or moved.after.is_terminal or moved.after.execution_id != started.execution_id:
            return None  # one start too many has ended it
        await self.workers.hand_out(worker.id, job.id)
        await self._publish(event_key("job", "started", job.course), started)
        log.info("job handed out", grader=worker.id, execution=started.execution_id, **job.context)
        return Handout(job.id, started.execution_id, stages if worker.extended else _as_the_originals(stages))

    async def report(self, worker: Attached, result: JobResult) -> None:
        """Take a result: job, log and the run's next step are stored when this returns.

        Raises:
            UnwantedResultError: There is no such job, it does not run, or not there; or nothing of it can be stored.
            StoreError: The store is away; the result has to be reported again.
        """
        job = await self.jobs.get(result.grading_job_id)
        if job is None:
            raise _unwanted(JOB_NOT_FOUND, Refusal.UNKNOWN)
        if job.state is not JobState.RUNNING:
            raise _unwanted(NOT_STARTED, Refusal.DUPLICATE if job.is_terminal else Refusal.STALE)
        attempt = job.execution_of(worker.id)
        if attempt is None:
            raise _unwanted(NOT_HELD, Refusal.UNKNOWN)
        await self._record(worker, job, await self._finished(worker, job, attempt, result))

    async def _finished(self, worker: Attached, job: Job, attempt: Attempt, result: JobResult) -> JobFinished:
        verdict = judge(result)
        logs = result.logs
        if not worker.extended and _has_silent_stage((await self.jobs.stages([job.id])).get(job.id, [])):
            logs = type(logs)()  # the original's graders cannot leave one stage's output out
        return JobFinished(
            **ids_of(job),
            execution_id=attempt.execution_id,
            grader_id=worker.id,
            started_at=attempt.started_at,
            finished_at=datetime.now(UTC),
            results=result.results,
            stdout=logs.stdout,
            stderr=logs.stderr,
            **verdict.model_dump(),
        )

    async def _record(self, worker: Attached, job: Job, finished: JobFinished) -> None:
        try:
            moved = await record_what_can_be(finished, self._record_one, refusal=refusal)
        except PublishError as error:  # it is stored, and the reconciler looks for what was not told
            log.warning("outcome not told", reason=str(error), **finished.context)
            moved = {}
        except Reject as error:
            raise _unwanted(str(error), Refusal.UNKNOWN) from error
        log.info("job reported", outcome=finished.outcome.value, **finished.context)
        await self.workers.take_back(worker.id, [job.id])
        if not moved or moved[job.id].after.is_terminal:
            await self._bring_forward(job.run_id)

    async def _record_one(self, event: Event) -> dict[str, Moved]:
        return await self.recorder.record([event])

    async def end(self, worker: Attached) -> None:
        """A grader's connection is gone: it is dead at once, and what it ran starts elsewhere."""
        if await self.workers.mark_dead(worker.id, session=worker.session):
            log.warning("grader has gone", grader=worker.id)
            await self._requeue_jobs_of(worker)

    async def suspend(self, worker: Attached) -> None:
        """This process ends, and so does a grader's connection: what it runs may be reported to the next one."""
        await self.workers.mark_dead(worker.id, session=worker.session)

    async def leave(self, worker: Attached) -> None:
        """A grader says goodbye: what it ran starts elsewhere, and its start does not count."""
        await self.workers.mark_dead(worker.id, session=worker.session)
        held = await self.jobs.held_by(worker.id)
        await self.put_back(worker, [(job.id, job.execution_id) for job in held if job.execution_id])
        await self._tell_of(worker, [], leaving=True)

    async def revoke(self, worker_id: str) -> None:
        """A grader is not wanted any more: what it runs starts elsewhere at once, and its start does not count."""
        worker = await self.workers.attached(worker_id)
        if worker is None:
            return
        await self.workers.mark_dead(worker_id)
        held = [job for job in await self.jobs.held_by(worker_id) if job.execution_id]
        if worker.gateway:
            await self.put_back(worker, [(job.id, job.execution_id) for job in held if job.execution_id])
        else:  # the broker gives its messages to others
            for job in held:
                await self._tell_release(worker_id, job)
        await self._tell_of(worker, [], leaving=True)

    async def _tell_release(self, worker_id: str, job: Job) -> None:
        released = JobReleased(
            **ids_of(job), execution_id=job.execution_id or "", grader_id=worker_id, released_at=datetime.now(UTC)
        )
        await self._publish(event_key("job", "released", job.course), released)

    async def put_back(self, worker: Attached, executions: Sequence[tuple[str, str]]) -> None:
        """Jobs, with their executions, that a grader was given but cannot run, through no fault of its own."""
        now = datetime.now(UTC)

        def back(execution_id: str) -> Move:
            return lambda job: job.put_back(execution_id, now)

        await self._move({job_id: back(execution_id) for job_id, execution_id in executions})
        await self.workers.take_back(worker.id, [job_id for job_id, _ in executions])

    async def _requeue_jobs_of(self, worker: Attached) -> None:
        now = datetime.now(UTC)

        def lose(execution_id: str | None) -> Move:
            return lambda job: job.lose(now, policy=self.policy, execution_id=execution_id)

        await self._move({job.id: lose(job.execution_id) for job in await self.jobs.held_by(worker.id)})
        await self._tell_of(worker, [], leaving=True)

    async def _move(self, moves: Mapping[str, Move]) -> None:
        if not moves:
            return
        moved = await self.jobs.move(moves)
        for fact in [fact for m in moved.values() for fact in following(m)]:
            _, key, event = fact
            await self._publish(key, event)
        for run_id in {m.after.run_id for m in moved.values() if m.after.is_terminal}:
            await self._bring_forward(run_id)

    async def _bring_forward(self, run_id: str) -> None:
        """Let a run take its next steps in the store, and announce them later."""
        while step := await advance(run_id, runs=self.runs, jobs=self.jobs):
            log.info("run advanced", state=step.state.slug, jobs=len(step.queued), **step.run.context)
            self.later(self._announce(step))
            if step.queued:
                return

    async def _announce(self, step: Step) -> None:
        try:
            await announce(step, runs=self.runs, publisher=self.rabbit)
        except PublishError as error:
            log.warning("step not announced", error=str(error), **step.run.context)

    async def _tell_of(self, worker: Attached, held: Sequence[Job], *, leaving: bool = False) -> None:
        beat = GraderHeartbeat(
            grader_id=worker.id,
            hostname=worker.hostname,
            pool=worker.pool,
            slots=max(1, len(held)),
            running=[
                RunningJob(job_id=job.id, generation=job.generation, execution_id=job.execution_id)
                for job in held
                if job.execution_id
            ],
            leaving=leaving,
            runtime=worker.runtime,
            gateway=self.name,
            sent_at=datetime.now(UTC),
        )
        self.later(self._publish(f"grader.heartbeat.{worker.id}", beat))

    async def _publish(self, key: str, event: Event) -> None:
        """Tell a fact that is stored already; what is not taken, the reconciler finds out."""
        try:
            await self.rabbit.publish(EVENTS, key, event)
        except PublishError as error:
            log.warning("fact not told", event_type=event.type, about=event.subject, reason=str(error), **event.context)


def _unwanted(why: str, refusal: Refusal) -> UnwantedResultError:
    metrics.OUTCOMES_REFUSED.labels(refusal).inc()
    return UnwantedResultError(why)


def _stored(moment: datetime) -> datetime:
    """A time as the store keeps it, in milliseconds, so that it can be compared with those that come back."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _is_under_way(job: Job, worker: Attached, now: datetime) -> bool:
    """Whether a job was given to a grader in its present life, and may still be on time."""
    attempt = job.execution_of(worker.id)
    if attempt is None or attempt.execution_id != job.execution_id:
        return False
    return attempt.started_at >= worker.registered_at and (attempt.deadline is None or now < attempt.deadline)


def _has_silent_stage(stages: Sequence[Mapping[str, Any]]) -> bool:
    return any(stage.get("logs") is False for stage in stages)


def _unknown_to_the_originals(stages: Sequence[Mapping[str, Any]]) -> str | None:
    """What the original's graders would ignore, or break down over, though it says how a stage is to run."""
    if any(stage.get("untrusted") for stage in stages):
        return "untrusted stages"
    return next((f"the key {key} of a stage" for key in OUR_KEYS if any(stage.get(key) for stage in stages)), None)


def _as_the_originals(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without what says nothing to the original's graders, and breaks them: ``logs`` does whatever its value."""
    return [{key: value for key, value in stage.items() if key not in ("logs", *OUR_KEYS)} for stage in stages]

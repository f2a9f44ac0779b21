"""Taking a job: say that it starts, run it, spool its outcome, report it, and only then let the message go."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from secrets import token_hex
from typing import Any

import stamina
import structlog

from broadway import history
from broadway.cancellation import end
from broadway.crashpoints import Point, reach
from broadway.events import (
    CancelJob,
    Event,
    ExecutionEvent,
    JobDispatched,
    JobFinished,
    JobReleased,
    JobStarted,
    RunningJob,
)
from broadway.grader.bench import Bench
from broadway.grader.grade import Graded
from broadway.grader.spool import Spool
from broadway.ports import Publisher, PublishError, Reject
from broadway.topology import EVENTS, JOBS, event_key, ready_key

log = structlog.get_logger(__name__)

MAX_DEFERRALS = 3
REMEMBERED = 1000  # reported attempts, whose messages may come back if an ack was lost
DEFERRAL_PAUSE = 0.2  # seconds before a job that would rather run elsewhere is put back


@dataclass(slots=True)
class _Execution:
    job: JobDispatched
    execution_id: str
    started_at: datetime
    task: asyncio.Task[Graded]
    is_unwanted: bool = False


@dataclass(slots=True)
class Worker:
    """One grader's hands: the handler of its pool's ready queue, and of cancellations."""

    pool: str
    bench: Bench
    publisher: Publisher
    spool: Spool[JobFinished]
    _running: dict[str, _Execution] = field(default_factory=dict)  # by execution
    _reported: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @property
    def grader_id(self) -> str:
        return self.bench.grader_id

    @property
    def running(self) -> list[RunningJob]:
        """What runs now."""
        return [
            RunningJob(job_id=e.job.job_id, generation=e.job.generation, execution_id=e.execution_id)
            for e in self._running.values()
        ]

    async def work(self, event: Event) -> None:
        """Run a job to its reported outcome. Cancelled, it gives the job back for somebody else to run."""
        if not isinstance(event, JobDispatched):
            raise Reject(f"a ready queue holds no {event.type}")
        with structlog.contextvars.bound_contextvars(job=event.job_id, run=event.run_id, attempt=event.attempt):
            await reach(Point.WORK_DELIVERED)
            if (event.key, event.attempt) in self._reported:
                log.info("delivered again after its outcome was reported")
            elif spooled := self.spool.get(event):
                await self._report(spooled)
            elif self.grader_id in event.avoid and event.deferrals < MAX_DEFERRALS:
                await self._defer(event)
            else:
                await self._execute(event)

    async def report_spooled(self) -> None:
        """Report what an earlier life of this grader could not."""
        for outcome in self.spool:
            log.info("reporting a spooled outcome", job=outcome.job_id)
            await self._report(outcome)

    async def cancel(self, event: Event) -> None:
        """Stop a job whose outcome is not wanted any more."""
        if not isinstance(event, CancelJob):
            raise Reject(f"a grader obeys no {event.type}")
        for execution in [each for each in self._running.values() if each.job.key == event.key]:
            log.info("cancelled", job=event.job_id, reason=event.reason)
            execution.is_unwanted = True
            execution.task.cancel()

    async def _execute(self, job: JobDispatched) -> None:
        execution_id, started_at = token_hex(12), datetime.now(UTC)
        told = JobStarted(**job.ids, execution_id=execution_id, grader_id=self.grader_id, started_at=started_at)
        await self._tell(told, "started")
        await reach(Point.WORK_START_TOLD)
        self._note("execution", job, execution_id)
        running = self.bench.run(job.job_id, execution_id, job.stages)
        execution = _Execution(job, execution_id, started_at, asyncio.create_task(running))
        self._running[execution_id] = execution
        try:
            graded = await self._await(execution)
            if graded is not None:
                await reach(Point.WORK_GRADED)
                await self._finish(execution, graded)
        finally:
            if not execution.task.done():  # whatever broke here, nothing runs on unattended
                await end(execution.task)
            self._note("execution-ended", job, execution_id)
            del self._running[execution_id]

    def _note(self, what: str, job: JobDispatched, execution_id: str) -> None:
        history.note(
            what,
            run=job.run_id,
            job=job.job_id,
            generation=job.generation,
            execution=execution_id,
            grader=self.grader_id,
        )

    async def _await(self, execution: _Execution) -> Graded | None:
        """What an execution came to; None if it is not wanted any more."""
        try:
            await reach(Point.WORK_RUNNING)
            return await asyncio.shield(execution.task)
        except asyncio.CancelledError:
            if execution.is_unwanted and execution.task.done():
                return None
            execution.task.cancel()
            await asyncio.wait([execution.task])
            await self._release(execution)
            raise

    async def _finish(self, execution: _Execution, graded: Graded) -> None:
        outcome = JobFinished(
            **execution.job.ids,
            execution_id=execution.execution_id,
            grader_id=self.grader_id,
            attempt=execution.job.attempt,
            started_at=execution.started_at,
            finished_at=datetime.now(UTC),
            outcome=graded.outcome,
            reason=graded.reason,
            fault_phase=graded.fault_phase,
            retryable=graded.retryable,
            results=graded.results,
            stdout=graded.stdout,
            stderr=graded.stderr,
        )
        await asyncio.to_thread(self.spool.put, outcome)
        await reach(Point.WORK_SPOOLED)
        await self._report(outcome)
        self._reported.append((execution.job.key, execution.job.attempt))

    async def _report(self, outcome: JobFinished) -> None:
        await self._tell(outcome, "finished")
        await reach(Point.WORK_OUTCOME_TOLD)
        self.spool.remove(outcome)
        await reach(Point.WORK_UNSPOOLED)
        log.info("finished", outcome=outcome.outcome.value, reason=outcome.reason)

    async def _release(self, execution: _Execution) -> None:
        given_back = JobReleased(
            **execution.job.ids,
            execution_id=execution.execution_id,
            grader_id=self.grader_id,
            released_at=datetime.now(UTC),
        )
        try:
            await self.publisher.publish(EVENTS, event_key("job", "released", execution.job.course), given_back)
        except PublishError as error:
            log.warning("release not told", job=execution.job.job_id, reason=str(error))

    async def _defer(self, job: JobDispatched) -> None:
        """Put a job back that failed here before, so that another grader can take it."""
        await asyncio.sleep(DEFERRAL_PAUSE)
        again = job.model_copy(update={"deferrals": job.deferrals + 1})
        await self._until_taken(partial(self.publisher.publish, JOBS, ready_key(self.pool), again))

    async def _tell(self, event: ExecutionEvent, fact: str) -> None:
        await self._until_taken(partial(self.publisher.publish, EVENTS, event_key("job", fact, event.course), event))

    async def _until_taken(self, publish: Any) -> None:
        """However long the broker is away: the work is done, or about to be, and only the telling is left."""
        async for attempt in stamina.retry_context(on=PublishError, attempts=None, timeout=None, wait_max=5):
            with attempt:
                await publish()

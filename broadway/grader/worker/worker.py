"""Taking a job: say that it starts, run it, spool its outcome, report it, and only then let the message go."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_hex
from typing import NoReturn
from weakref import WeakValueDictionary

import stamina
import structlog
from anyio import CapacityLimiter

from broadway.domain.assignment import ALLOWANCE, longest_run
from broadway.domain.job import FaultPhase, Outcome
from broadway.grader.grading.grade import Graded, fault
from broadway.grader.ports import ContainerError
from broadway.grader.worker.availability import Availability
from broadway.grader.worker.recent_outcomes import RecentOutcomes
from broadway.grader.worker.runner import Runner
from broadway.grader.worker.spool import Spool
from broadway.messages.events import (
    CancelJob,
    Event,
    ExecutionEvent,
    GraderOrder,
    JobDispatched,
    JobFinished,
    JobReleased,
    JobStarted,
    RunningJob,
)
from broadway.messages.topology import EVENTS, event_key
from broadway.ports import GiveBack, Publisher, PublishError, Reject
from broadway.runtime import fault_history
from broadway.runtime.cancellation import end
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

MAX_DEFERRALS = 3
REMEMBERED = 1000  # attempts that were put off, and jobs that need no other attempt
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
    """One grader's hands: the handler of its pool's ready queue, and of commands.

    No more than its duty's ``slots`` jobs run at a time, though more messages may come: what runs when a connection is
    lost goes on, and the next connection brings others.
    """

    runner: Runner
    availability: Availability
    publisher: Publisher
    spool: Spool[JobFinished]
    _running: dict[str, _Execution] = field(default_factory=dict)  # by execution
    _hands: CapacityLimiter = field(init=False)
    _turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)  # by job and generation
    _recent_outcomes: RecentOutcomes = field(default_factory=RecentOutcomes)
    _settled: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))  # no other attempt is wanted
    _deferred: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def __post_init__(self) -> None:
        self._hands = CapacityLimiter(self.availability.slots)

    @property
    def grader_id(self) -> str:
        return self.runner.grader_id

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
        with structlog.contextvars.bound_contextvars(**event.context):
            await reach(Point.WORK_DELIVERED)
            turn = self._turns.setdefault(event.key, asyncio.Lock())
            has_waited = turn.locked()  # for an earlier attempt, which still runs here though its lease was lost
            async with turn:
                if has_waited and event.key in self._settled:
                    log.info("not started, since an earlier attempt has come to an outcome")
                else:
                    await self._take(event)

    async def _take(self, job: JobDispatched) -> None:
        if reported := self._recent_outcomes.get(job):
            log.info("delivered again after its outcome was reported")
            await self._tell(reported, "finished")
        elif spooled := self.spool.get(job):
            await self._report(spooled)
        elif self.grader_id in job.avoid and self._deferred.count((job.key, job.attempt)) < MAX_DEFERRALS:
            await self._defer(job)
        else:
            async with self._hands:
                if self.availability.reason:
                    await self._give_back(self.availability.reason)
                await self._execute(job)

    async def report_spooled(self) -> None:
        """Report what an earlier life of this grader could not."""
        for outcome in self.spool:
            with structlog.contextvars.bound_contextvars(**outcome.context):
                log.info("reporting a spooled outcome")
                await self._report(outcome)

    async def obey(self, event: Event) -> None:
        """Carry a command out."""
        match event:
            case CancelJob():
                self._cancel(event)
            case GraderOrder():
                self.availability.obey(event)
                self._hands.total_tokens = self.availability.slots
            case _:
                raise Reject(f"a grader obeys no {event.type}")

    def _cancel(self, event: CancelJob) -> None:
        """Stop a job whose outcome is not wanted any more."""
        for execution in [each for each in self._running.values() if each.job.key == event.key]:
            log.info("cancelled", reason=event.reason, execution=execution.execution_id, **event.context)
            execution.is_unwanted = True
            execution.task.cancel()

    async def _execute(self, job: JobDispatched) -> None:
        execution_id, started_at = token_hex(12), datetime.now(UTC)
        structlog.contextvars.bind_contextvars(execution=execution_id)
        told = JobStarted(**job.ids, execution_id=execution_id, grader_id=self.grader_id, started_at=started_at)
        await self._tell(told, "started")
        await reach(Point.WORK_START_TOLD)
        self._note("execution", job, execution_id)
        running = self.runner.run(job.job_id, execution_id, job.stages)
        execution = _Execution(job, execution_id, started_at, asyncio.create_task(running))
        self._running[execution_id] = execution
        try:
            graded = await self._await(execution)
            if graded is not None:
                await self.availability.self_check.note(job.job_id, graded)
                await reach(Point.WORK_GRADED)
                await self._finish(execution, graded)
        finally:
            if not execution.task.done():  # whatever broke here, nothing runs on unattended
                await end(execution.task)
            self._note("execution-ended", job, execution_id)
            del self._running[execution_id]

    def _note(self, what: str, job: JobDispatched, execution_id: str) -> None:
        fault_history.note(
            what,
            run=job.run_id,
            job=job.job_id,
            generation=job.generation,
            execution=execution_id,
            grader=self.grader_id,
        )

    async def _await(self, execution: _Execution) -> Graded | None:
        """What an execution came to; None if it is not wanted any more."""
        limit = _longest(execution.job)
        try:
            await reach(Point.WORK_RUNNING)
            await asyncio.wait({execution.task}, timeout=limit)
            if not execution.task.done():
                log.error("overdue: this slot is stuck", seconds=limit)
                reason = f"the grader did not come to an end within {limit:g} s"
                return fault(ContainerError(reason, phase=FaultPhase.WAIT, retryable=True))
            return execution.task.result()
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
            results=[each.entry() for each in graded.results],
            stdout=graded.stdout,
            stderr=graded.stderr,
        )
        await self._spool(outcome)
        await reach(Point.WORK_SPOOLED)
        await self._report(outcome)
        if graded.outcome is not Outcome.INFRASTRUCTURE_ERROR:
            self._settled.append(execution.job.key)

    async def _spool(self, outcome: JobFinished) -> None:
        """Write an outcome down. What the disk does not take is reported all the same, with nothing to fall back on."""
        try:
            await asyncio.to_thread(self.spool.put, outcome)
        except OSError as error:
            log.error("outcome not spooled", reason=error.strerror)  # noqa: TRY400 - no bug of ours

    async def _report(self, outcome: JobFinished) -> None:
        await self._tell(outcome, "finished")
        self._recent_outcomes.add(outcome)
        await reach(Point.WORK_OUTCOME_TOLD)
        self.spool.remove(outcome)
        await reach(Point.WORK_UNSPOOLED)
        log.info("finished", outcome=outcome.outcome.value, reason=outcome.reason)

    async def _release(self, execution: _Execution) -> None:
        if self.availability.is_revoked:
            return  # the API has said it, and nobody listens to us
        given_back = JobReleased(
            **execution.job.ids,
            execution_id=execution.execution_id,
            grader_id=self.grader_id,
            released_at=datetime.now(UTC),
        )
        try:
            await self.publisher.publish(EVENTS, event_key("job", "released", execution.job.course), given_back)
        except PublishError as error:
            log.warning("release not told", reason=str(error), **execution.job.context)

    async def _defer(self, job: JobDispatched) -> None:
        """Give a job back that failed here before, so that another grader can take it."""
        self._deferred.append((job.key, job.attempt))
        await self._give_back("it failed here before")

    async def _give_back(self, reason: str) -> NoReturn:
        await asyncio.sleep(DEFERRAL_PAUSE)
        raise GiveBack(reason)

    async def _tell(self, event: ExecutionEvent, fact: str) -> None:
        """However long the broker is away: the work is done, or about to be, and only the telling is left."""
        async for attempt in stamina.retry_context(on=PublishError, attempts=None, timeout=None, wait_max=5):
            with attempt:
                await self.publisher.publish(EVENTS, event_key("job", fact, event.course), event)


def _longest(job: JobDispatched) -> float:
    """Seconds after which a job has to be over, whatever the engine, the disk or this program do."""
    try:
        return longest_run(job.stages) + ALLOWANCE.total_seconds()
    except (AttributeError, TypeError, ValueError):  # no stages at all, as grading them will find
        return ALLOWANCE.total_seconds()

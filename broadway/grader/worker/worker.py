"""A job's way through the grader: run it, spool and publish its outcome, then acknowledge it.

The start of a job is published once it has run for a moment, or at once if an earlier start may be unreported. Most
jobs end before that, and their outcomes imply their starts. A job that is cancelled while it runs is stopped, and its
output so far is reported: it changes no job.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_hex
from typing import NoReturn
from weakref import WeakValueDictionary

import structlog
from anyio import CapacityLimiter

from broadway.domain.assignment import ALLOWANCE, longest_run
from broadway.domain.job import FaultPhase, Outcome
from broadway.grader.grading.grade import Graded, fault
from broadway.grader.ports import ContainerError
from broadway.grader.worker.availability import Availability
from broadway.grader.worker.log_publisher import LogPublisher
from broadway.grader.worker.recent_outcomes import RecentOutcomes
from broadway.grader.worker.reports import Reports
from broadway.grader.worker.runner import Runner
from broadway.grader.worker.spool import Spool
from broadway.grader.worker.submission_files import Claim, SubmissionFiles, without_api
from broadway.messages.envelope import fitted
from broadway.messages.events import (
    CancelJob,
    Event,
    GraderOrder,
    JobDispatched,
    JobFinished,
    JobReleased,
    JobStarted,
    RunningJob,
)
from broadway.messages.live_logs import WatchLog
from broadway.ports import GiveBack, PublishError, Reject
from broadway.runtime import fault_history
from broadway.runtime.cancellation import end
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

MAX_DEFERRALS = 3
REMEMBERED = 1000  # deferred attempts, and jobs that need no other attempt
DEFERRAL_PAUSE = 0.2  # seconds before a job for another grader is requeued
SHORT = 0.2  # seconds
PATIENCE = 1.0  # seconds for which a job that came early waits for a slot
STOP_WITHIN = 10.0  # seconds in which a stopped execution must end by itself; otherwise its output is lost
LOG_WITHIN = 5.0  # seconds for which a slot waits until the output of a cancelled job is reported
FAST = 2  # short jobs for each slot, one after another, after which jobs may come early


@dataclass(slots=True)
class _Execution:
    job: JobDispatched
    execution_id: str
    started_at: datetime
    task: asyncio.Task[Graded]
    stop: asyncio.Event
    is_unwanted: bool = False
    is_told: bool = False  # its start may be published


@dataclass(slots=True)
class Worker:
    """The handler of a pool's ready queue, and of commands to one grader.

    At most ``availability.slots`` jobs run at a time, though more messages may arrive: when a connection is lost, its
    jobs go on, and the next connection delivers more. Jobs that end within ``short`` seconds are reported in one event.
    """

    runner: Runner
    availability: Availability
    reports: Reports
    spool: Spool[JobFinished]
    short: float = SHORT
    files: SubmissionFiles | None = None  # None if the API could not be reached
    logs: LogPublisher | None = None
    _running: dict[str, _Execution] = field(default_factory=dict)  # by execution
    _slots: CapacityLimiter = field(init=False)
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)  # by job and generation
    _recent_outcomes: RecentOutcomes = field(default_factory=RecentOutcomes)
    _finished_keys: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))  # no other attempt is wanted
    _late: set[asyncio.Task[None]] = field(default_factory=set)  # reports of cancelled jobs
    _short_in_row: int = 0  # jobs
    _deferrals: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def __post_init__(self) -> None:
        self._slots = CapacityLimiter(self.availability.slots)

    async def aclose(self) -> None:
        """Report nothing more; the output of cancelled jobs that waits remains in the spool."""
        await end(*self._late)

    @property
    def grader_id(self) -> str:
        return self.runner.grader_id

    @property
    def running(self) -> list[RunningJob]:
        """The jobs that run now."""
        return [
            RunningJob(job_id=e.job.job_id, generation=e.job.generation, execution_id=e.execution_id)
            for e in self._running.values()
        ]

    @property
    def is_fast(self) -> bool:
        """True if jobs take so little time that the next ones may come early: before a slot is free."""
        return self._short_in_row >= FAST * self.availability.slots

    async def work_soon(self, event: Event) -> None:
        """Do the same as ``work`` for a job that has come early; give it back if no slot becomes free soon."""
        await self.work(event, patience=PATIENCE)

    async def work(self, event: Event, *, patience: float | None = None) -> None:
        """Run a job and publish its outcome. If cancelled, release the job so that another grader can run it.

        The job waits for a slot for at most ``patience`` seconds.

        Raises:
            GiveBack: This grader should not run the job now.
            Reject: The event is not a job.
        """
        if not isinstance(event, JobDispatched):
            raise Reject(f"a ready queue holds no {event.type}")
        with structlog.contextvars.bound_contextvars(**event.context):
            await reach(Point.WORK_DELIVERED)
            lock = self._locks.setdefault(event.key, asyncio.Lock())
            has_waited = lock.locked()  # by an earlier attempt, which still runs here though its lease was lost
            async with lock:
                if has_waited and event.key in self._finished_keys:
                    log.info("not started, since an earlier attempt has come to an outcome")
                else:
                    await self._take(event, patience)

    async def _take(self, job: JobDispatched, patience: float | None) -> None:
        if published := self._recent_outcomes.get(job):
            log.info("delivered again after its outcome was reported")
            await self.reports.finished(published)
        elif (spooled := self.spool.get(job)) and not spooled.outcome.is_order:
            await self._report(spooled)
        elif self.grader_id in job.avoid and self._deferrals.count((job.key, job.attempt)) < MAX_DEFERRALS:
            await self._defer(job)
        else:
            async with self._slot(patience):
                if self.availability.reason:
                    await self._give_back(self.availability.reason)
                await self._execute(job)

    @contextlib.asynccontextmanager
    async def _slot(self, patience: float | None) -> AsyncIterator[None]:
        """Take a slot for the time of the context.

        Raises:
            GiveBack: None is free for ``patience`` seconds.
        """
        try:
            async with asyncio.timeout(patience):
                await self._slots.acquire()
        except TimeoutError:
            raise GiveBack("it came early, and jobs here take long") from None
        try:
            yield
        finally:
            self._slots.release()

    async def report_spooled(self) -> None:
        """Publish the outcomes that an earlier process of this grader could not."""
        for outcome in self.spool:
            with structlog.contextvars.bound_contextvars(**outcome.context):
                log.info("reporting a spooled outcome")
                await self._report(outcome)

    async def obey(self, event: Event) -> None:
        """Carry out a command.

        Raises:
            Reject: The event is not a command to a grader.
        """
        match event:
            case CancelJob():
                self._cancel(event)
            case GraderOrder():
                self.availability.obey(event)
                self._slots.total_tokens = self.availability.slots
            case WatchLog():
                if self.logs:
                    self.logs.watch(event)
            case _:
                raise Reject(f"a grader obeys no {event.type}")

    def _cancel(self, event: CancelJob) -> None:
        """Stop a job whose outcome is no longer wanted."""
        for execution in [each for each in self._running.values() if each.job.key == event.key]:
            if execution.stop.is_set():
                continue  # the command is repeated until the grader's heartbeat shows that the job has ended
            log.info("cancelled", reason=event.reason, execution=execution.execution_id, **event.context)
            execution.is_unwanted = True
            execution.stop.set()
            asyncio.get_running_loop().call_later(STOP_WITHIN, execution.task.cancel)

    async def _execute(self, job: JobDispatched) -> None:
        execution_id, started_at = token_hex(12), datetime.now(UTC)
        structlog.contextvars.bind_contextvars(execution=execution_id)
        if is_doubtful := job.redelivered or job.attempt > 1:
            await self._tell_start(job, execution_id, started_at)
        self._record("execution", job, execution_id)
        stop = asyncio.Event()
        running = asyncio.create_task(self._run(job, execution_id, stop))
        execution = _Execution(job, execution_id, started_at, running, stop, is_told=is_doubtful)
        self._running[execution_id] = execution
        try:
            graded = await self._await(execution)
            if graded is not None and graded.outcome.is_order:
                await self._hand_in_log(execution, graded)
            elif graded is not None:
                await self.availability.self_check.note(job.job_id, graded, course=job.course)
                await reach(Point.WORK_GRADED)
                await self._finish(execution, graded)
        finally:
            if not execution.task.done():  # after an error here, no execution may go on unattended
                await end(execution.task)
            self._record("execution-ended", job, execution_id)
            del self._running[execution_id]

    async def _run(self, job: JobDispatched, execution_id: str, stop: asyncio.Event) -> Graded:
        claim = Claim(job.job_id, job.generation, job.ticket, execution_id)
        preparation = self.files.preparation(claim, job.stages) if self.files else without_api(job.stages)
        sending = self.files.sending(claim) if self.files else None
        with self.logs.of(job, execution_id) if self.logs else contextlib.nullcontext() as listener:
            return await self.runner.run(job.job_id, execution_id, job.stages, preparation, sending, listener, stop)

    async def _tell_start(self, job: JobDispatched, execution_id: str, started_at: datetime) -> None:
        start = JobStarted(
            **job.ids,
            execution_id=execution_id,
            grader_id=self.grader_id,
            started_at=started_at,
            redelivered=job.redelivered,
        )
        await self.reports.publish(start, "started")
        await reach(Point.WORK_START_TOLD)

    async def _tell_start_if_long(self, execution: _Execution) -> None:
        """Publish the start of an execution that is not short, unless it is published.

        While the broker is unavailable, this goes on until the execution has ended: its outcome implies its start.
        """
        if execution.is_told:
            return
        await asyncio.wait({execution.task}, timeout=self.short)
        if execution.task.done():
            self._short_in_row += 1
            return
        self._short_in_row = 0
        execution.is_told = True
        telling = asyncio.create_task(self._tell_start(execution.job, execution.execution_id, execution.started_at))
        try:
            await asyncio.wait({telling, execution.task}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
        finally:
            await end(telling)

    def _record(self, change: str, job: JobDispatched, execution_id: str) -> None:
        fault_history.note(
            change,
            run=job.run_id,
            job=job.job_id,
            generation=job.generation,
            execution=execution_id,
            grader=self.grader_id,
        )

    async def _await(self, execution: _Execution) -> Graded | None:
        """Wait for an execution and return its result, or None if the outcome is no longer wanted."""
        limit = _time_limit(execution.job)
        try:
            await reach(Point.WORK_RUNNING)
            await self._tell_start_if_long(execution)
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
        outcome = self._outcome(execution, graded)
        await self._spool(outcome)
        await reach(Point.WORK_SPOOLED)
        await self._report(outcome)
        if graded.outcome is not Outcome.INFRASTRUCTURE_ERROR:
            self._finished_keys.append(execution.job.key)

    async def _hand_in_log(self, execution: _Execution, graded: Graded) -> None:
        """Report the output of a cancelled job. The slot waits only a moment for a broker that is unavailable."""
        if not self.reports.cancelled_logs:
            return
        outcome = self._outcome(execution, graded)
        await self._spool(outcome)
        await reach(Point.WORK_SPOOLED)
        reporting = asyncio.create_task(self._report(outcome))
        self._late.add(reporting)
        reporting.add_done_callback(self._late.discard)
        await asyncio.wait({reporting}, timeout=LOG_WITHIN)
        if reporting.done() and not reporting.cancelled():
            reporting.result()

    def _outcome(self, execution: _Execution, graded: Graded) -> JobFinished:
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
            redelivered=execution.job.redelivered,
        )
        return fitted(outcome)

    async def _spool(self, outcome: JobFinished) -> None:
        """Spool an outcome. If the disk refuses it, it is still published, but would be lost with this process."""
        try:
            await self.spool.put(outcome)
        except OSError as error:
            log.error("outcome not spooled", reason=error.strerror)  # noqa: TRY400 - a full disk needs no traceback

    async def _report(self, outcome: JobFinished) -> None:
        await self.reports.finished(outcome)
        if not outcome.outcome.is_order:  # the job may be delivered again, to be run
            self._recent_outcomes.add(outcome)
        await reach(Point.WORK_OUTCOME_TOLD)
        if self.spool.get(outcome) is outcome:  # and not of a later execution of the same start
            self.spool.remove(outcome)
        await reach(Point.WORK_UNSPOOLED)
        log.info("finished", outcome=outcome.outcome.value, reason=outcome.reason)

    async def _release(self, execution: _Execution) -> None:
        if self.availability.is_revoked or not execution.is_told:
            return  # the API has released the jobs, and the broker refuses this grader; or no start is recorded
        given_back = JobReleased(
            **execution.job.ids,
            execution_id=execution.execution_id,
            grader_id=self.grader_id,
            released_at=datetime.now(UTC),
        )
        try:
            await self.reports.publish_once(given_back, "released")
        except PublishError as error:
            log.warning("release not published", reason=str(error), **execution.job.context)

    async def _defer(self, job: JobDispatched) -> None:
        """Requeue a job that failed here before, so that another grader can take it."""
        self._deferrals.append((job.key, job.attempt))
        await self._give_back("it failed here before")

    async def _give_back(self, reason: str) -> NoReturn:
        await asyncio.sleep(DEFERRAL_PAUSE)
        raise GiveBack(reason)


def _time_limit(job: JobDispatched) -> float:
    """Return the seconds after which a job must have ended, even if the engine, the disk or this program hangs."""
    try:
        return longest_run(job.stages) + ALLOWANCE.total_seconds()
    except (AttributeError, TypeError, ValueError):  # the stages are not valid, which grading will report
        return ALLOWANCE.total_seconds()

"""Orders for existing runs: cancel, supersede, or run jobs again.

An order is stored with its run before any job changes, so that another process can finish it if this one dies.
"""

import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog

from broadway.domain.job import Job, JobState, Outcome, Phase
from broadway.domain.moves import Move
from broadway.domain.run import NothingToDoError, Order, OrderKind, Run, RunState, rerun_order
from broadway.lifecycle.announce import Announcements
from broadway.lifecycle.follow_ups import facts_of, following
from broadway.lifecycle.steps import PhaseJobs, RunSteps, Step, complete, publish_at, rerun
from broadway.runtime import fault_history
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

TRIES = 5  # attempts to store an order while other processes change the run
GRACE = timedelta(seconds=5)  # the reconciler leaves a new order alone for this long

SUPERSEDED = "a later submission of the student has come"
RUN_NOT_FOUND = "grading run with the given ID not found"


class OrderError(Exception):
    """An order was refused; the message gives the reason."""


class NoRunError(OrderError):
    """The run does not exist."""


class IsOverError(OrderError):
    """The run or job has ended, so there is nothing to cancel."""


class RunIsBusyError(OrderError):
    """Other processes changed the run at every try; retry the order later."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """The state and round of a run after an order, and the ids of the jobs that the order affects."""

    run_id: str
    state: RunState
    round: int
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    run: Run
    order: Order
    state: RunState
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Orders:
    """Stores orders and carries them out. ``announcements`` publishes the results in the background."""

    runs: RunSteps
    jobs: PhaseJobs
    announcements: Announcements

    async def cancel(self, run_id: str, reason: str) -> Ordered:
        """End a run: its waiting jobs never start, its running jobs are stopped.

        Raises:
            NoRunError: The run does not exist.
            IsOverError: The run has ended.
            RunIsBusyError: The run changed at every try.
        """

        async def plan() -> _Plan:
            run = await self._summary(run_id)
            if run.state.is_terminal:
                raise IsOverError("the run is over")
            open_jobs = tuple(job.id for job in await self.jobs.of_run(run_id) if not job.is_terminal)
            return _Plan(run, Order(OrderKind.CANCEL, reason), run.state, open_jobs)

        return await self._give(plan)

    async def cancel_job(self, job: Job, reason: str) -> Ordered:
        """End one job; its run continues without it.

        Raises:
            IsOverError: The job has ended.
        """
        now = datetime.now(UTC)
        moved = (await self.jobs.move({job.id: lambda stored: stored.cancel(reason, now)}))[job.id]
        if not moved.changed:
            raise IsOverError("the job is over")
        await reach(Point.CANCEL_STORED)
        log.info("job cancelled", **job.context)
        self.announcements.facts(following(moved))
        run = await self._summary(job.run_id)
        return Ordered(run.id, run.state, run.round, (job.id,))

    async def supersede(self, run_id: str) -> None:
        """End a run in favor of a later submission, unless one of its jobs has started.

        Raises:
            RunIsBusyError: The run changed at every try.
        """

        async def plan() -> _Plan:
            run = await self._summary(run_id)
            present = await self.jobs.of_run(run_id)
            started = any(job.state in (JobState.RUNNING, JobState.FINISHED) for job in present)
            if run.state.is_terminal or started:
                raise NothingToDoError("the run has begun or is over")
            return _Plan(run, Order(OrderKind.SUPERSEDE, SUPERSEDED), run.state, tuple(job.id for job in present))

        with contextlib.suppress(NoRunError, NothingToDoError):
            await self._give(plan)

    async def run_again(
        self, run_id: str, *, only: Collection[str] | None, failed: bool, check: Callable[[Run], None]
    ) -> Ordered:
        """Run jobs of a run again, then the later phases.

        Args:
            run_id: The run.
            only: Ids of jobs; all jobs if None.
            failed: Select only jobs that ended without success.
            check: Called with the run and its config; raises if the run may not start now.

        Raises:
            NoRunError: The run does not exist.
            NothingToDoError: The run has no matching job.
            RunIsBusyError: The run changed at every try.
        """

        async def plan() -> _Plan:
            run = await self.runs.get(run_id)
            if run is None:
                raise NoRunError(RUN_NOT_FOUND)
            check(run)
            state, order = rerun_order(await self.jobs.of_run(run_id), only=only, failed=failed)
            return _Plan(run, order, state, tuple(job_id for job_id, _ in order.jobs))

        return await self._give(plan)

    async def _give(self, plan: Callable[[], Awaitable[_Plan]]) -> Ordered:
        for _ in range(TRIES):
            planned = await plan()
            run, order = planned.run, planned.order
            if run.order:  # an earlier order, whose process has died or has not finished
                await self._carry_out(run, run.order)
            elif await self.runs.give_order(run, order, planned.state, publish_at=datetime.now(UTC) + GRACE):
                await reach(Point.ORDER_STORED)
                ordered = replace(run, order=order, state=planned.state, round=run.round + 1)
                fault_history.note("order", run=run.id, kind=order.kind.value, round=ordered.round)
                log.info("order given", order=order.kind.value, jobs=len(order.jobs), **run.context)
                await self._carry_out(ordered, order)
                await reach(Point.ORDER_DONE)
                after = await self._summary(run.id)
                return Ordered(run.id, after.state, after.round, planned.jobs)
        raise RunIsBusyError("the run moves on just now: try again")

    async def _carry_out(self, run: Run, order: Order) -> None:
        if step := await carry_out(run, order, runs=self.runs, jobs=self.jobs):
            self.announcements.step(step)

    async def _summary(self, run_id: str) -> Run:
        run = await self.runs.summary(run_id)
        if run is None:
            raise NoRunError(RUN_NOT_FOUND)
        return run


async def carry_out(run: Run, order: Order, *, runs: RunSteps, jobs: PhaseJobs) -> Step | None:
    """Apply a run's stored order to its jobs, then clear it; return None if the run has changed since it was read."""
    now = datetime.now(UTC)
    if order.kind is OrderKind.RERUN:
        moves = await _restarts(run, order, now, jobs=jobs)
        target = run.state
    else:
        moves = await _ends(run, order, now, runs=runs, jobs=jobs)
        target = RunState.FAILED
    moved = await jobs.move(moves)
    await reach(Point.ORDER_JOBS_MOVED)
    queued = await _queued(run, jobs=jobs) if order.kind is OrderKind.RERUN else ()
    due = publish_at(now, queued)
    if not await runs.advance(run, target, now=now, publish_at=due):
        return None
    return Step(run, target, queued, facts_of(moved), due)


async def _ends(run: Run, order: Order, now: datetime, *, runs: RunSteps, jobs: PhaseJobs) -> dict[str, Move]:
    """The moves that end a run's open jobs."""
    outcome = Outcome.CANCELLED if order.kind is OrderKind.CANCEL else Outcome.SUPERSEDED
    # The process that stored a new run may not have stored its jobs yet; it will find them here, already ended.
    await complete(run.id, runs=runs, jobs=jobs)
    present = await jobs.of_run(run.id)
    return {job.id: _cancel(order.reason, now, outcome) for job in present if not job.is_terminal}


async def _restarts(run: Run, order: Order, now: datetime, *, jobs: PhaseJobs) -> dict[str, Move]:
    """The moves that start the ordered jobs again and end the open jobs of later phases."""
    present = await jobs.of_run(run.id)
    moves = {job_id: rerun(generation, run.round, now) for job_id, generation in order.jobs}
    return moves | {
        job.id: _cancel("an earlier phase of the run starts again", now)
        for job in present
        if not job.is_terminal and run.phase and _comes_after(job.phase, run.phase)
    }


async def _queued(run: Run, *, jobs: PhaseJobs) -> tuple[Job, ...]:
    """The queued jobs of a run's present phase."""
    return tuple(job for job in await jobs.of_run(run.id) if job.phase is run.phase and job.state is JobState.QUEUED)


def _comes_after(phase: Phase, other: Phase) -> bool:
    return list(Phase).index(phase) > list(Phase).index(other)


def _cancel(reason: str, now: datetime, outcome: Outcome = Outcome.CANCELLED) -> Move:
    return lambda job: job.cancel(reason, now, outcome)

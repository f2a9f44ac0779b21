"""Orders for existing runs: cancel, supersede, or run jobs again.

An order is stored with its run before any job changes, so that another process can finish it if this one dies. From
then on no waiting job of a run that ends is handed out. An order for few jobs is carried out before the answer, one
for many jobs after it.
"""

import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from broadway.domain.job import Job, JobState, Outcome
from broadway.domain.run import NothingToDoError, Order, OrderKind, Run, RunState, rerun_order
from broadway.lifecycle.announce import Announcements
from broadway.lifecycle.carrying_out import BATCH, GRACE, carry_out
from broadway.lifecycle.follow_ups import Fact, following
from broadway.lifecycle.steps import PhaseJobs, RunSteps
from broadway.ports import StoreError
from broadway.runtime import fault_history
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.pacing import spaced

log = structlog.get_logger(__name__)

TRIES = 5  # attempts to store an order while other processes change the run
MAX_NAMED = 1000  # jobs whose ids an answer lists

SUPERSEDED = "a later submission of the student has come"
RUN_NOT_FOUND = "grading run with the given ID not found"


class OrderError(Exception):
    """An order was refused; the message gives the reason."""


class NoRunError(OrderError):
    """The run does not exist."""


class IsOverError(OrderError):
    """The run or job has ended, so there is nothing to cancel."""


class RunIsBusyError(OrderError):
    """Other processes change the run, or carry out an earlier order; retry the order later."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """The state and round of a run after an order, the number of jobs that the order affects, and ids of the first.

    While the order is still being carried out, the state is that of the run before it.
    """

    run_id: str
    state: RunState
    round: int
    jobs: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class _Plan:
    run: Run
    order: Order
    state: RunState
    jobs: Sequence[str]
    config: Mapping[str, Any] | None = None

    @property
    def repeats(self) -> bool:
        """True if the run is being ended already, as this order would."""
        return self.run.order is not None and self.run.order.ends_run and self.order.ends_run

    @property
    def overrides(self) -> bool:
        """True if this order ends a run whose earlier order would start jobs."""
        return self.run.order is not None and not self.run.order.ends_run and self.order.kind is OrderKind.CANCEL


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
            open_jobs = [job.id for job in await spaced(self.jobs.outlines_of_run(run_id)) if job.is_open]
            return _Plan(run, Order(OrderKind.CANCEL, reason), run.state, open_jobs)

        return await self._give(plan)

    async def cancel_job(self, job: Job, reason: str) -> Ordered:
        """End one job; its run continues without it.

        Raises:
            IsOverError: The job has ended.
        """
        now = datetime.now(UTC)
        moved = (await self.jobs.move({job.id: lambda stored: stored.cancel(reason, now)}))[job.id]
        await reach(Point.CANCEL_STORED)
        self.announcements.facts(following(moved))
        if not moved.changed or moved.after.outcome is not Outcome.CANCELLED:  # another outcome was stored first
            raise IsOverError("the job is over")
        log.info("job cancelled", **job.context)
        run = await self._summary(job.run_id)
        return Ordered(run.id, run.state, run.round, (job.id,), 1)

    async def supersede(self, run_id: str) -> None:
        """End a run in favor of a later submission, unless one of its jobs has started.

        Raises:
            RunIsBusyError: The run changed at every try.
        """

        async def plan() -> _Plan:
            run = await self._summary(run_id)
            present = await spaced(self.jobs.outlines_of_run(run_id))
            started = any(job.state in (JobState.RUNNING, JobState.FINISHED) for job in present)
            if run.state.is_terminal or started:
                raise NothingToDoError("the run has begun or is over")
            return _Plan(run, Order(OrderKind.SUPERSEDE, SUPERSEDED), run.state, [job.id for job in present])

        with contextlib.suppress(NoRunError, NothingToDoError):
            await self._give(plan)

    async def run_again(
        self,
        run_id: str,
        *,
        only: Collection[str] | None,
        failed: bool,
        check: Callable[[Run], None],
        config: Mapping[str, Any] | None = None,
    ) -> Ordered:
        """Run jobs of a run again, then the later phases.

        Args:
            run_id: The run.
            only: Ids of jobs; all jobs if None.
            failed: Select only jobs that ended without success.
            check: Called with the run as it is stored; raises if it may not start now.
            config: The config to use from now on; the run's own if None.

        Raises:
            UnstorableError: The config is too large for the store; nothing is stored.
            NoRunError: The run does not exist.
            NothingToDoError: The run has no matching job.
            RunIsBusyError: The run changed at every try, or an earlier order for many jobs is being carried out.
        """

        async def plan() -> _Plan:
            run = await self.runs.get(run_id)
            if run is None:
                raise NoRunError(RUN_NOT_FOUND)
            check(run)
            state, order = rerun_order(await spaced(self.jobs.outlines_of_run(run_id)), only=only, failed=failed)
            return _Plan(run, order, state, [job_id for job_id, _ in order.jobs], config)

        return await self._give(plan)

    async def _give(self, plan: Callable[[], Awaitable[_Plan]]) -> Ordered:
        for _ in range(TRIES):
            planned = await plan()
            if planned.run.order and not planned.overrides:
                if ordered := await self._finish_earlier(planned, planned.run.order):
                    return ordered
            elif ordered := await self._store(planned):
                return ordered
        raise RunIsBusyError("the run moves on just now: try again")

    async def _finish_earlier(self, planned: _Plan, earlier: Order) -> Ordered | None:
        """Carry out an earlier order, whose process has died or has not finished; return None when that is done.

        An order for many jobs is left to its process: the answer then is that of the earlier order if it ends the run.

        Raises:
            RunIsBusyError: Another process carries out an earlier order for many jobs.
        """
        run = planned.run
        is_alive = run.publish_at is not None and run.publish_at > datetime.now(UTC)
        if not is_alive or max(len(planned.jobs), len(earlier.jobs)) <= BATCH:
            await self._carry_out(run, earlier)
            return None
        if planned.repeats:
            return _ordered(run, planned.jobs)
        raise RunIsBusyError("an earlier order for the run is being carried out: try again later")

    async def _store(self, planned: _Plan) -> Ordered | None:
        """Store an order, and carry it out; return None if the run has changed since it was read."""
        run, order, due = planned.run, planned.order, datetime.now(UTC) + GRACE
        if not await self.runs.give_order(run, order, planned.state, publish_at=due, config=planned.config):
            return None
        await reach(Point.ORDER_STORED)
        ordered = replace(run, order=order, state=planned.state, round=run.round + 1, publish_at=due)
        if planned.config is not None:
            ordered = replace(ordered, config=planned.config, config_round=ordered.round)
        fault_history.note("order", run=run.id, kind=order.kind.value, round=ordered.round)
        log.info("order given", order=order.kind.value, jobs=len(planned.jobs), **run.context)
        if len(planned.jobs) > BATCH:
            self.announcements.later(self._carry_out_later(ordered, order))
            return _ordered(ordered, planned.jobs)
        await self._carry_out(ordered, order)
        await reach(Point.ORDER_DONE)
        return _ordered(await self._summary(run.id), planned.jobs)

    async def _carry_out(self, run: Run, order: Order) -> None:
        if step := await carry_out(run, order, runs=self.runs, jobs=self.jobs, publish=self._publish_later):
            self.announcements.step(step)

    async def _carry_out_later(self, run: Run, order: Order) -> None:
        """Carry out an order for many jobs after its answer; if this fails, the reconciler carries it out."""
        try:
            step = await carry_out(run, order, runs=self.runs, jobs=self.jobs, publish=self.announcements.publish)
        except StoreError as error:
            log.warning("order not carried out yet", order=order.kind.value, reason=str(error), **run.context)
            return
        if step:
            self.announcements.step(step)
        await reach(Point.ORDER_DONE)

    async def _publish_later(self, facts: Sequence[Fact]) -> None:
        self.announcements.facts(facts)

    async def _summary(self, run_id: str) -> Run:
        run = await self.runs.summary(run_id)
        if run is None:
            raise NoRunError(RUN_NOT_FOUND)
        return run


def _ordered(run: Run, jobs: Sequence[str]) -> Ordered:
    return Ordered(run.id, run.state, run.round, tuple(jobs[:MAX_NAMED]), len(jobs))

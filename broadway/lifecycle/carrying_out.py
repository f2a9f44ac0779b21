"""Carry out the stored orders of runs, in batches: a run may have thousands of jobs, and others use the store, too."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from broadway.domain.job import Job, JobState, Outcome, Phase
from broadway.domain.moves import Move
from broadway.domain.run import JobOutline, Order, OrderKind, PlannedJob, Run, RunState, plan_jobs
from broadway.lifecycle.follow_ups import Fact, facts_of
from broadway.lifecycle.steps import PhaseJobs, RunSteps, Step, complete, publish_at, rerun
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.pacing import spaced

BATCH = 50  # jobs moved at a time
GRACE = timedelta(seconds=5)  # other processes leave an order alone for this long, unless its process renews the time

Publish = Callable[[Sequence[Fact]], Awaitable[None]]


@dataclass(slots=True)
class _Hold:
    """The right to carry out a run's order. It expires unless its holder renews it."""

    run: Run
    runs: RunSteps
    until: datetime | None

    async def renew(self) -> bool:
        """Extend the right if it is about to expire; return False if another process has it, or the run has changed."""
        now = datetime.now(UTC)
        if self.until is None or self.until - now > GRACE / 2:
            return True
        until = now + GRACE
        if not await self.runs.hold_order(self.run, self.until, until):
            return False
        self.until = until
        return True


async def carry_out(
    run: Run, order: Order, *, runs: RunSteps, jobs: PhaseJobs, publish: Publish, limit: int | None = None
) -> Step | None:
    """Apply a run's stored order to its jobs, then clear the order.

    Args:
        run: The run, with or without its roster and config.
        order: The order that is stored with it.
        runs: The stored runs.
        jobs: The stored jobs.
        publish: Called with the facts that follow from each batch of jobs.
        limit: The number of jobs to move in this call; the rest is left to a later one.

    Returns:
        The step that ends the order, which the caller must announce; None if jobs are left, the run has changed since
        it was read, or another process has taken the order over.
    """
    moves = await _moves(run, order, runs=runs, jobs=jobs)
    planned = await _replanned(run, runs=runs)
    hold = _Hold(run, runs, run.publish_at)
    for start in range(0, len(moves), BATCH):
        if start == limit or not await hold.renew():
            return None
        batch = dict(moves[start : start + BATCH])
        await jobs.restage([plan for plan in planned if plan.job.id in batch])
        moved = await jobs.move(batch)
        await reach(Point.ORDER_JOBS_MOVED)
        await publish(facts_of(moved))
    queued: Sequence[Job] = ()
    if not order.ends_run and run.phase:
        queued = await jobs.queued_of_run(run.id, run.phase)
    now, target = datetime.now(UTC), RunState.FAILED if order.ends_run else run.state
    due = publish_at(now, queued)
    if not await runs.advance(run, target, now=now, publish_at=due):
        return None
    return Step(run, target, tuple(queued), publish_at=due)


async def _moves(run: Run, order: Order, *, runs: RunSteps, jobs: PhaseJobs) -> list[tuple[str, Move]]:
    """Return the moves that are left of an order, by job id: jobs that graders have or will get soon come first."""
    now = datetime.now(UTC)
    # The process that stored a new run may not have stored its jobs yet; it will find them here.
    await spaced(complete(run.id, runs=runs, jobs=jobs))
    present = await spaced(jobs.outlines_of_run(run.id))
    if order.ends_run:
        outcome = Outcome.CANCELLED if order.kind is OrderKind.CANCEL else Outcome.SUPERSEDED
        ended = sorted((job for job in present if job.is_open), key=_waits)
        return [(job.id, _cancel(order.reason, now, outcome)) for job in ended]
    restarted = dict(order.jobs)
    later = [job for job in present if job.is_open and run.phase and _comes_after(job.phase, run.phase)]
    return [
        *((job.id, _cancel("an earlier phase of the run starts again", now)) for job in later),
        *(
            (job.id, rerun(job.generation, run.round, now))
            for job in present
            if restarted.get(job.id) == job.generation and job not in later
        ),
    ]


async def _replanned(run: Run, *, runs: RunSteps) -> list[PlannedJob]:
    """Return the jobs of the present phase with the stages of the run's config, if that is not the original one.

    The jobs of later phases get theirs when the run comes to them.
    """
    if not run.phase or run.config_round == 1:
        return []
    full = await runs.get(run.id)
    return plan_jobs(full, run.phase, full.started_at) if full else []


def _waits(job: JobOutline) -> bool:
    return job.state is JobState.QUEUED


def _comes_after(phase: Phase, other: Phase) -> bool:
    return list(Phase).index(phase) > list(Phase).index(other)


def _cancel(reason: str, now: datetime, outcome: Outcome = Outcome.CANCELLED) -> Move:
    return lambda job: job.cancel(reason, now, outcome)

"""Moving a run from phase to phase: the jobs of a phase are stored first, then the run's state says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from broadway import history
from broadway.crashpoints import Point, reach
from broadway.events import RunAdvanced
from broadway.facts import Fact, following
from broadway.job import Job, JobState, Move, Moved, Phase
from broadway.outbox import publish_queued
from broadway.ports import Publisher, PublishError
from broadway.run import PHASE_OF, Order, OrderKind, PlannedJob, Run, RunState, plan_jobs
from broadway.topology import EVENTS, event_key

log = structlog.get_logger(__name__)

# The reconciler leaves a new phase alone for this long, since whoever began it is publishing its jobs.
PUBLISH_GRACE = timedelta(seconds=5)
PUBLISH_GRACE_PER_JOB = timedelta(milliseconds=5)


class RunStore(Protocol):
    """The part of the run store that phases need."""

    async def get(self, run_id: str) -> Run | None: ...
    async def summary(self, run_id: str) -> Run | None: ...
    async def advance(self, run: Run, target: RunState, *, now: datetime, publish_at: datetime | None) -> bool: ...
    async def mark_published(self, run: Run, state: RunState) -> None: ...


class PhaseJobs(Protocol):
    """The part of the job store that phases need."""

    async def insert(self, planned: Sequence[PlannedJob]) -> None: ...
    async def is_phase_open(self, run_id: str, phase: Phase) -> bool: ...
    async def has_phase_succeeded(self, run_id: str, phase: Phase) -> bool: ...
    async def of_run(self, run_id: str) -> list[Job]: ...
    async def move(self, moves: Mapping[str, Move]) -> dict[str, Moved]: ...


@dataclass(frozen=True, slots=True)
class Advanced:
    """A step that a run has taken, the jobs that it queued, and what else has to be told of it."""

    run: Run
    state: RunState
    queued: tuple[Job, ...]
    facts: tuple[Fact, ...] = ()


async def advance(run_id: str, *, runs: RunStore, jobs: PhaseJobs) -> Advanced | None:
    """Take a run's next step if its present phase is complete, or carry its order out.

    Safe to call at any time and by several processes at once: only one of them takes the step.

    Returns:
        The step, which is still to be announced; None when there is nothing to do.
    """
    summary = await runs.summary(run_id)
    if summary is None or summary.state.is_terminal:
        return None
    if summary.order:
        return await _carry_out(summary, summary.order, runs=runs, jobs=jobs)
    if summary.phase and await jobs.is_phase_open(run_id, summary.phase):
        return None
    run = await runs.get(run_id)
    if run is None or (run.state, run.round) != (summary.state, summary.round):
        return None
    succeeded = run.phase is None or await jobs.has_phase_succeeded(run_id, run.phase)
    return await _step(run, run.next_state(phase_succeeded=succeeded), runs=runs, jobs=jobs)


async def begin(run: Run, *, runs: RunStore, jobs: PhaseJobs) -> Advanced | None:
    """Take a new run's first step; None if somebody else was quicker."""
    return await _step(run, run.next_state(phase_succeeded=True), runs=runs, jobs=jobs)


async def _step(run: Run, target: RunState, *, runs: RunStore, jobs: PhaseJobs) -> Advanced | None:
    now = datetime.now(UTC)
    phase = PHASE_OF.get(target)
    planned = plan_jobs(run, phase, now) if phase else []
    await reach(Point.STEP_PLANNED)
    await jobs.insert(planned)
    await reach(Point.STEP_JOBS_STORED)
    queued: tuple[Job, ...] = tuple(plan.job for plan in planned)
    facts: tuple[Fact, ...] = ()
    if phase and run.round > 1:
        queued, facts = await _renew(run, phase, now, jobs=jobs)
    if not await runs.advance(run, target, now=now, publish_at=_publish_at(now, queued)):
        return None
    history.note("step", run=run.id, round=run.round, source=run.state.slug, target=target.slug)
    await reach(Point.STEP_STORED)
    return Advanced(run, target, queued, facts)


async def _renew(run: Run, phase: Phase, now: datetime, *, jobs: PhaseJobs) -> tuple[tuple[Job, ...], tuple[Fact, ...]]:
    """A phase begins in a later round: its jobs of earlier rounds start all over."""
    of_phase = [job for job in await jobs.of_run(run.id) if job.phase is phase]
    moves = {job.id: _rerun(job.generation, run.round, now) for job in of_phase if job.round < run.round}
    moved = await jobs.move(moves)
    now_queued = {job_id: m.after for job_id, m in moved.items()} | {j.id: j for j in of_phase if j.id not in moved}
    queued = tuple(now_queued[job.id] for job in of_phase if now_queued[job.id].state is JobState.QUEUED)
    return queued, _facts(moved)


async def _carry_out(run: Run, order: Order, *, runs: RunStore, jobs: PhaseJobs) -> Advanced | None:
    now = datetime.now(UTC)
    present = await jobs.of_run(run.id)
    if order.kind is OrderKind.CANCEL:
        moved = await jobs.move({job.id: _cancel(order.reason, now) for job in present if not job.is_terminal})
        await reach(Point.ORDER_JOBS_MOVED)
        if not await runs.advance(run, RunState.FAILED, now=now, publish_at=None):
            return None
        return Advanced(run, RunState.FAILED, (), _facts(moved))
    moves = {job_id: _rerun(generation, run.round, now) for job_id, generation in order.jobs}
    moves |= {
        job.id: _cancel("an earlier phase of the run starts again", now)
        for job in present
        if not job.is_terminal and run.phase and _comes_after(job.phase, run.phase)
    }
    moved = await jobs.move(moves)
    await reach(Point.ORDER_JOBS_MOVED)
    queued = tuple(job for job in await jobs.of_run(run.id) if job.phase is run.phase and job.state is JobState.QUEUED)
    if not await runs.advance(run, run.state, now=now, publish_at=_publish_at(now, queued)):
        return None
    return Advanced(run, run.state, queued, _facts(moved))


def _comes_after(phase: Phase, other: Phase) -> bool:
    return list(Phase).index(phase) > list(Phase).index(other)


def _rerun(generation: int, round_: int, now: datetime) -> Move:
    return lambda job: job.rerun(generation, round_, now)


def _cancel(reason: str, now: datetime) -> Move:
    return lambda job: job.cancel(reason, now)


def _facts(moved: Mapping[str, Moved]) -> tuple[Fact, ...]:
    return tuple(fact for m in moved.values() for fact in following(m))


def _publish_at(now: datetime, queued: Sequence[Job]) -> datetime | None:
    return now + PUBLISH_GRACE + len(queued) * PUBLISH_GRACE_PER_JOB if queued else None


async def announce(step: Advanced, *, runs: RunStore, publisher: Publisher) -> None:
    """Publish a step's jobs, and then the facts. What is not taken stays in the outbox for the reconciler.

    Raises:
        PublishError: A fact was not taken; whoever needs it looks for it some time later.
    """
    run = step.run
    await reach(Point.ANNOUNCE_BEGUN)
    if step.queued and await publish_queued(step.queued, publisher=publisher):
        await reach(Point.ANNOUNCE_JOBS_PUBLISHED)
        await runs.mark_published(run, step.state)
        await reach(Point.ANNOUNCE_MARKED)
    for fact in step.facts:
        await publisher.publish(*fact)
    advanced = RunAdvanced(
        course=run.course, assignment=run.assignment, run_id=run.id, state=step.state, round=run.round
    )
    await publisher.publish(EVENTS, event_key("run", step.state.slug, run.course), advanced)
    await reach(Point.ANNOUNCE_TOLD)


async def bring_forward(run_id: str, *, runs: RunStore, jobs: PhaseJobs, publisher: Publisher) -> None:
    """Let a run take every step that it can take."""
    while step := await advance(run_id, runs=runs, jobs=jobs):
        log.info("run advanced", run=run_id, course=step.run.course, state=step.state.slug, jobs=len(step.queued))
        try:
            await announce(step, runs=runs, publisher=publisher)
        except PublishError as error:
            log.warning("step not announced", run=run_id, error=str(error))
        if step.queued:
            return

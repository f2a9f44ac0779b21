"""Moving a run from phase to phase.

The jobs of a phase are stored first, then the run's state says so. Only a new run is stored before its jobs, since they
follow from it; until all of them are there, none is published.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from broadway.domain.job import Job, JobState, Move, Moved, Outcome, Phase
from broadway.domain.run import PHASE_OF, Order, OrderKind, PlannedJob, Run, RunState, plan_jobs
from broadway.lifecycle.follow_ups import Fact, following
from broadway.lifecycle.outbox import WINDOW, publish_queued
from broadway.messages.events import RunAdvanced
from broadway.messages.topology import EVENTS, event_key
from broadway.ports import Publisher, PublishError
from broadway.runtime import fault_history
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

# The reconciler leaves a phase alone for this long, since whoever began it is publishing its jobs, and says so again.
PUBLISH_GRACE = timedelta(seconds=6)


class RunStore(Protocol):
    """The part of the run store that phases need."""

    async def insert(self, run: Run) -> bool: ...
    async def get(self, run_id: str) -> Run | None: ...
    async def summary(self, run_id: str) -> Run | None: ...
    async def advance(self, run: Run, target: RunState, *, now: datetime, publish_at: datetime | None) -> bool: ...
    async def hold(self, run: Run, state: RunState, since: datetime, until: datetime) -> bool: ...
    async def mark_published(self, run: Run, state: RunState) -> None: ...


class PhaseJobs(Protocol):
    """The part of the job store that phases need."""

    async def insert(self, planned: Sequence[PlannedJob]) -> None: ...
    async def count(self, run_id: str, phase: Phase) -> int: ...
    async def is_phase_open(self, run_id: str, phase: Phase) -> bool: ...
    async def has_phase_succeeded(self, run_id: str, phase: Phase) -> bool: ...
    async def of_run(self, run_id: str) -> list[Job]: ...
    async def move(self, moves: Mapping[str, Move]) -> dict[str, Moved]: ...


@dataclass(frozen=True, slots=True)
class Advanced:
    """A step that a run has taken, the jobs that it queued, and what else has to be told of it.

    ``publish_at`` is when somebody else will publish those jobs.
    """

    run: Run
    state: RunState
    queued: tuple[Job, ...]
    facts: tuple[Fact, ...] = ()
    publish_at: datetime | None = None


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
    return await _go_on(run, is_published=summary.publish_at is None, runs=runs, jobs=jobs)


async def _go_on(run: Run, *, is_published: bool, runs: RunStore, jobs: PhaseJobs) -> Advanced | None:
    """Leave a phase in which no open job was found, or begin it where whoever stored the run got no further."""
    if run.phase and not is_published:
        # The jobs of a new run are stored after it, and may have come since somebody looked.
        if run.envs(run.phase) and not await jobs.count(run.id, run.phase):
            return await _store_jobs(run, run.phase, jobs=jobs)
        if await jobs.is_phase_open(run.id, run.phase):
            return None
    # What the students' jobs came to does not matter to the run.
    succeeded = run.phase in (None, Phase.STUDENTS) or await jobs.has_phase_succeeded(run.id, run.phase)
    return await _step(run, run.next_state(phase_succeeded=succeeded), runs=runs, jobs=jobs)


async def begin(run: Run, *, runs: RunStore, jobs: PhaseJobs) -> Advanced | None:
    """Store a new run in its first phase, and then the jobs of that; None if there is a run of its id already."""
    target = run.next_state(phase_succeeded=True)
    phase = PHASE_OF.get(target)
    now = run.started_at
    begun = replace(run, state=target, publish_at=now + PUBLISH_GRACE)
    if phase is None:
        begun = replace(run, state=target, finished_at=now, success=True)
    if not await runs.insert(begun):
        return None
    await reach(Point.SUBMIT_STORED)
    fault_history.note("step", run=run.id, round=run.round, source=run.state.slug, target=target.slug)
    return await _store_jobs(begun, phase, jobs=jobs) if phase else Advanced(run, target, ())


async def complete(run_id: str, *, runs: RunStore, jobs: PhaseJobs) -> None:
    """Make sure that all jobs of a run's present phase are stored."""
    run = await runs.get(run_id)
    if run and run.phase and await jobs.count(run_id, run.phase) < len(run.envs(run.phase)):
        await jobs.insert(plan_jobs(run, run.phase, run.started_at))


async def _store_jobs(run: Run, phase: Phase, *, jobs: PhaseJobs) -> Advanced:
    planned = plan_jobs(run, phase, run.started_at)
    await jobs.insert(planned)
    await reach(Point.SUBMIT_STEPPED)
    return Advanced(run, run.state, tuple(plan.job for plan in planned), publish_at=run.publish_at)


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
    publish_at = _publish_at(now, queued)
    if not await runs.advance(run, target, now=now, publish_at=publish_at):
        return None
    fault_history.note("step", run=run.id, round=run.round, source=run.state.slug, target=target.slug)
    await reach(Point.STEP_STORED)
    return Advanced(run, target, queued, facts, publish_at)


async def _renew(run: Run, phase: Phase, now: datetime, *, jobs: PhaseJobs) -> tuple[tuple[Job, ...], tuple[Fact, ...]]:
    """A phase begins in a later round: its jobs of earlier rounds start all over."""
    of_phase = [job for job in await jobs.of_run(run.id) if job.phase is phase]
    moves = {job.id: _rerun(job.generation, run.round, now) for job in of_phase if job.round < run.round}
    moved = await jobs.move(moves)
    now_queued = {job_id: m.after for job_id, m in moved.items()} | {j.id: j for j in of_phase if j.id not in moved}
    queued = tuple(now_queued[job.id] for job in of_phase if now_queued[job.id].state is JobState.QUEUED)
    return queued, _facts(moved)


async def _carry_out(run: Run, order: Order, *, runs: RunStore, jobs: PhaseJobs) -> Advanced | None:
    if order.kind is OrderKind.RERUN:
        return await _run_again(run, order, runs=runs, jobs=jobs)
    outcome = Outcome.CANCELLED if order.kind is OrderKind.CANCEL else Outcome.SUPERSEDED
    return await _end(run, order.reason, outcome, runs=runs, jobs=jobs)


async def _end(run: Run, reason: str, outcome: Outcome, *, runs: RunStore, jobs: PhaseJobs) -> Advanced | None:
    now = datetime.now(UTC)
    # Whoever is still about to store the jobs of a new run will find them there, ended.
    await complete(run.id, runs=runs, jobs=jobs)
    present = await jobs.of_run(run.id)
    moved = await jobs.move({job.id: _cancel(reason, now, outcome) for job in present if not job.is_terminal})
    await reach(Point.ORDER_JOBS_MOVED)
    if not await runs.advance(run, RunState.FAILED, now=now, publish_at=None):
        return None
    return Advanced(run, RunState.FAILED, (), _facts(moved))


async def _run_again(run: Run, order: Order, *, runs: RunStore, jobs: PhaseJobs) -> Advanced | None:
    now = datetime.now(UTC)
    present = await jobs.of_run(run.id)
    moves = {job_id: _rerun(generation, run.round, now) for job_id, generation in order.jobs}
    moves |= {
        job.id: _cancel("an earlier phase of the run starts again", now)
        for job in present
        if not job.is_terminal and run.phase and _comes_after(job.phase, run.phase)
    }
    moved = await jobs.move(moves)
    await reach(Point.ORDER_JOBS_MOVED)
    queued = tuple(job for job in await jobs.of_run(run.id) if job.phase is run.phase and job.state is JobState.QUEUED)
    publish_at = _publish_at(now, queued)
    if not await runs.advance(run, run.state, now=now, publish_at=publish_at):
        return None
    return Advanced(run, run.state, queued, _facts(moved), publish_at)


def _comes_after(phase: Phase, other: Phase) -> bool:
    return list(Phase).index(phase) > list(Phase).index(other)


def _rerun(generation: int, round_: int, now: datetime) -> Move:
    return lambda job: job.rerun(generation, round_, now)


def _cancel(reason: str, now: datetime, outcome: Outcome = Outcome.CANCELLED) -> Move:
    return lambda job: job.cancel(reason, now, outcome)


def _facts(moved: Mapping[str, Moved]) -> tuple[Fact, ...]:
    return tuple(fact for m in moved.values() for fact in following(m))


def _publish_at(now: datetime, queued: Sequence[Job]) -> datetime | None:
    return now + PUBLISH_GRACE if queued else None


class Hold:
    """The right to publish the jobs of a step: it lasts for a while, and is renewed by whoever has it."""

    def __init__(self, step: Advanced, runs: RunStore) -> None:
        self._step = step
        self._runs = runs
        self._until = step.publish_at

    async def renew(self) -> bool:
        """Make sure that the right lasts for a while; False when it has passed to somebody else."""
        now = datetime.now(UTC)
        if self._until is None or self._until - now > PUBLISH_GRACE / 2:
            return True
        until = now + PUBLISH_GRACE
        if not await self._runs.hold(self._step.run, self._step.state, self._until, until):
            return False
        self._until = until
        return True


class Announcer:
    """Announces steps. Large ones come one after another, so that no small one has to wait for all of them."""

    def __init__(self, *, runs: RunStore, publisher: Publisher) -> None:
        self._runs = runs
        self._publisher = publisher
        self._turn = asyncio.Lock()

    async def announce(self, step: Advanced) -> None:
        """Publish a step's jobs, and then the facts; see the function of that name."""
        hold = Hold(step, self._runs)
        if len(step.queued) <= WINDOW:
            await announce(step, runs=self._runs, publisher=self._publisher, hold=hold)
            return
        turn = asyncio.create_task(self._turn.acquire())
        try:
            while not turn.done():
                await asyncio.wait([turn], timeout=PUBLISH_GRACE.total_seconds() / 3)
                await hold.renew()
            await announce(step, runs=self._runs, publisher=self._publisher, hold=hold)
        finally:
            if turn.done() and not turn.cancelled():
                self._turn.release()
            turn.cancel()


async def announce(step: Advanced, *, runs: RunStore, publisher: Publisher, hold: Hold | None = None) -> None:
    """Publish a step's jobs, and then the facts. What is not taken stays in the outbox for the reconciler.

    Raises:
        PublishError: A fact was not taken; whoever needs it looks for it some time later.
    """
    run = step.run
    await reach(Point.ANNOUNCE_BEGUN)
    may_go_on = (hold or Hold(step, runs)).renew
    if step.queued and await publish_queued(step.queued, publisher=publisher, may_go_on=may_go_on):
        await reach(Point.ANNOUNCE_JOBS_PUBLISHED)
        await runs.mark_published(run, step.state)
        await reach(Point.ANNOUNCE_MARKED)
    for fact in step.facts:
        await publisher.publish(*fact)
    advanced = RunAdvanced(
        course=run.course,
        assignment=run.assignment,
        run_id=run.id,
        state=step.state,
        round=run.round,
        traceparent=run.traceparent,
    )
    await publisher.publish(EVENTS, event_key("run", step.state.slug, run.course), advanced)
    await reach(Point.ANNOUNCE_TOLD)


async def bring_forward(run_id: str, *, runs: RunStore, jobs: PhaseJobs, publisher: Publisher) -> None:
    """Let a run take every step that it can take."""
    while step := await advance(run_id, runs=runs, jobs=jobs):
        log.info("run advanced", state=step.state.slug, jobs=len(step.queued), **step.run.context)
        try:
            await announce(step, runs=runs, publisher=publisher)
        except PublishError as error:
            log.warning("step not announced", error=str(error), **step.run.context)
        if step.queued or step.state.is_terminal:
            return

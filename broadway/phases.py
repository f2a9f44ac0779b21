"""Moving a run from phase to phase: the jobs of a phase are stored first, then the run's state says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from broadway.events import RunAdvanced
from broadway.job import Job, Phase
from broadway.outbox import publish_queued
from broadway.ports import Publisher, PublishError
from broadway.run import PHASE_OF, PlannedJob, Run, RunState, plan_jobs
from broadway.topology import EVENTS, event_key

log = structlog.get_logger(__name__)

# The reconciler leaves a new phase alone for this long, since whoever began it is publishing its jobs.
PUBLISH_GRACE = timedelta(seconds=5)
PUBLISH_GRACE_PER_JOB = timedelta(milliseconds=5)


class RunStore(Protocol):
    """The part of the run store that phases need."""

    async def get(self, run_id: str) -> Run | None: ...
    async def summary(self, run_id: str) -> Run | None: ...
    async def advance(
        self, run_id: str, *, source: RunState, target: RunState, now: datetime, publish_at: datetime | None
    ) -> bool: ...
    async def mark_published(self, run_id: str, state: RunState) -> None: ...


class PhaseJobs(Protocol):
    """The part of the job store that phases need."""

    async def insert(self, planned: Sequence[PlannedJob]) -> None: ...
    async def is_phase_open(self, run_id: str, phase: Phase) -> bool: ...
    async def has_phase_succeeded(self, run_id: str, phase: Phase) -> bool: ...


@dataclass(frozen=True, slots=True)
class Advanced:
    """A step that a run has taken, and the jobs it brought."""

    run: Run
    state: RunState
    queued: tuple[Job, ...]


async def advance(run_id: str, *, runs: RunStore, jobs: PhaseJobs) -> Advanced | None:
    """Take a run's next step if its present phase is complete.

    Safe to call at any time and by several processes at once: only one of them takes the step.

    Returns:
        The step, which is still to be announced; None when there is nothing to do.
    """
    summary = await runs.summary(run_id)
    if summary is None or summary.state.is_terminal:
        return None
    if summary.phase and await jobs.is_phase_open(run_id, summary.phase):
        return None
    run = await runs.get(run_id)
    if run is None or run.state is not summary.state:
        return None
    succeeded = run.phase is None or await jobs.has_phase_succeeded(run_id, run.phase)
    return await _step(run, run.next_state(phase_succeeded=succeeded), runs=runs, jobs=jobs)


async def _step(run: Run, target: RunState, *, runs: RunStore, jobs: PhaseJobs) -> Advanced | None:
    now = datetime.now(UTC)
    phase = PHASE_OF.get(target)
    planned = plan_jobs(run, phase, now) if phase else []
    await jobs.insert(planned)
    publish_at = now + PUBLISH_GRACE + len(planned) * PUBLISH_GRACE_PER_JOB if planned else None
    if not await runs.advance(run.id, source=run.state, target=target, now=now, publish_at=publish_at):
        return None
    return Advanced(run, target, tuple(plan.job for plan in planned))


async def announce(step: Advanced, *, runs: RunStore, publisher: Publisher) -> None:
    """Publish a step's jobs, and then the fact. What is not taken stays in the outbox for the reconciler.

    Raises:
        PublishError: The fact was not taken; nothing depends on it.
    """
    run = step.run
    if step.queued and await publish_queued(step.queued, publisher=publisher):
        await runs.mark_published(run.id, step.state)
    fact = RunAdvanced(course=run.course, assignment=run.assignment, run_id=run.id, state=step.state)
    await publisher.publish(EVENTS, event_key("run", step.state.slug, run.course), fact)


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

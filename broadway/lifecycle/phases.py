"""Move a run from phase to phase.

The jobs of a phase are stored before the run's state changes. Only a new run is stored before its jobs, since the jobs
can be derived from it; no job is published until all of them are stored.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from broadway.domain.job import Job, JobState, Phase
from broadway.domain.run import PHASE_OF, Run, RunState, plan_jobs
from broadway.lifecycle.announce import announce
from broadway.lifecycle.follow_ups import Fact, facts_of
from broadway.lifecycle.steps import AT_ONCE, PUBLISH_GRACE, PhaseJobs, RunSteps, Step, publish_at, rerun
from broadway.ports import Publisher, PublishError
from broadway.runtime import fault_history
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.threads import beside

log = structlog.get_logger(__name__)

_FOR_STUDENT = timedelta(milliseconds=0.5)  # to store the environment of a student


async def advance(run_id: str, *, runs: RunSteps, jobs: PhaseJobs) -> Step | None:
    """Take a run's next step if its present phase is complete. A run with an order takes no step until that is done.

    Safe to call at any time and from several processes at once: only one of them takes the step.

    Returns:
        The step, which the caller must announce; None if there is nothing to do.
    """
    summary = await runs.summary(run_id)
    if summary is None or summary.state.is_terminal or summary.order:
        return None
    if summary.phase and await jobs.is_phase_open(run_id, summary.phase):
        return None
    run = await runs.get(run_id)
    if run is None or (run.state, run.round) != (summary.state, summary.round):
        return None
    return await _continue(run, is_published=summary.publish_at is None, runs=runs, jobs=jobs)


async def _continue(run: Run, *, is_published: bool, runs: RunSteps, jobs: PhaseJobs) -> Step | None:
    """Leave a phase that has no open job, or store its jobs if the process that stored the run died before that."""
    if run.phase and not is_published:
        # The jobs of a new run are stored after it, perhaps since the caller's check for open jobs.
        if run.envs(run.phase) and not await jobs.count(run.id, run.phase):
            if run.publish_at and run.publish_at > datetime.now(UTC):
                return None  # the process that stored a large run stores its jobs afterwards
            return await _store_jobs(run, run.phase, jobs=jobs)
        if await jobs.is_phase_open(run.id, run.phase):
            return None
    # The outcomes of students' jobs do not decide about the run.
    succeeded = run.phase in (None, Phase.STUDENTS) or await jobs.has_phase_succeeded(run.id, run.phase)
    return await _step(run, run.next_state(phase_succeeded=succeeded), runs=runs, jobs=jobs)


async def begin(run: Run, *, runs: RunSteps, jobs: PhaseJobs) -> Step | None:
    """Store a new run in its first phase, then the jobs of that phase; return None if the run's id is taken.

    The jobs of a large run are stored when its step is announced.
    """
    target = run.next_state(phase_succeeded=True)
    phase = PHASE_OF.get(target)
    now, students = run.started_at, len(run.students_env)
    begun = replace(run, state=target, publish_at=now + PUBLISH_GRACE + _FOR_STUDENT * students)
    if phase is None:
        begun = replace(run, state=target, finished_at=now, success=True)
    if not await runs.insert(begun):
        return None
    await reach(Point.SUBMIT_STORED)
    fault_history.note("step", run=run.id, round=run.round, source=run.state.slug, target=target.slug)
    if phase is None:
        return Step(run, target, ())
    if len(begun.envs(phase)) > AT_ONCE:
        return Step(begun, target, (), publish_at=begun.publish_at, is_stored=False)
    return await _store_jobs(begun, phase, jobs=jobs)


async def _store_jobs(run: Run, phase: Phase, *, jobs: PhaseJobs) -> Step:
    planned = await beside(len(run.students_env), plan_jobs, run, phase, run.started_at)
    await jobs.insert(planned)
    await reach(Point.SUBMIT_STEPPED)
    return Step(run, run.state, tuple(plan.job for plan in planned), publish_at=run.publish_at)


async def _step(run: Run, target: RunState, *, runs: RunSteps, jobs: PhaseJobs) -> Step | None:
    now = datetime.now(UTC)
    phase = PHASE_OF.get(target)
    planned = await beside(len(run.students_env), plan_jobs, run, phase, now) if phase else []
    await reach(Point.STEP_PLANNED)
    await jobs.insert(planned)
    await reach(Point.STEP_JOBS_STORED)
    queued: tuple[Job, ...] = tuple(plan.job for plan in planned)
    facts: tuple[Fact, ...] = ()
    if phase and run.round > 1:
        if run.config_round > 1:
            await jobs.restage(planned)  # jobs of earlier rounds have the stages of an earlier config
        queued, facts = await _renew(run, phase, now, jobs=jobs)
    due = publish_at(now, queued)
    is_ungraded = target is RunState.FINISHED and await jobs.is_ungraded(run.id)
    if not await runs.advance(run, target, now=now, publish_at=due, is_ungraded=is_ungraded):
        return None
    fault_history.note("step", run=run.id, round=run.round, source=run.state.slug, target=target.slug)
    await reach(Point.STEP_STORED)
    return Step(run, target, queued, facts, due)


async def _renew(run: Run, phase: Phase, now: datetime, *, jobs: PhaseJobs) -> tuple[tuple[Job, ...], tuple[Fact, ...]]:
    """Restart the jobs of a phase that ran in earlier rounds; return the queued jobs of the phase, and the facts."""
    of_phase = [job for job in await jobs.of_run(run.id) if job.phase is phase]
    moves = {job.id: rerun(job.generation, run.round, now) for job in of_phase if job.round < run.round}
    moved = await jobs.move(moves)
    now_queued = {job_id: m.after for job_id, m in moved.items()} | {j.id: j for j in of_phase if j.id not in moved}
    queued = tuple(now_queued[job.id] for job in of_phase if now_queued[job.id].state is JobState.QUEUED)
    return queued, facts_of(moved)


async def bring_forward(run_id: str, *, runs: RunSteps, jobs: PhaseJobs, publisher: Publisher) -> None:
    """Take and announce a run's steps until it waits for jobs or has ended."""
    while step := await advance(run_id, runs=runs, jobs=jobs):
        log.info("run advanced", state=step.state.slug, jobs=len(step.queued), **step.run.context)
        try:
            await announce(step, runs=runs, publisher=publisher)
        except PublishError as error:
            log.warning("step not announced", error=str(error), **step.run.context)
        if step.queued or step.state.is_terminal:
            return

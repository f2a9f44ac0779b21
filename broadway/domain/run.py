"""Grading runs: phases, states and the jobs of each phase. Pure."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from broadway.domain.assignment import Env, prepare_stages
from broadway.domain.job import Job, JobClass, Phase
from broadway.domain.trace import log_ids


class RunState(StrEnum):
    """The states of a run; each value is what the original's clients and database spell."""

    READY = "ready to be started"
    PRE_PROCESSING = "pre processing job has been scheduled"
    STUDENTS = "students grading jobs have been scheduled"
    POST_PROCESSING = "post processing job has been scheduled"
    FINISHED = "grading run is complete"
    FAILED = "grading run failed"

    @property
    def is_terminal(self) -> bool:
        """Whether the run is over."""
        return self in (RunState.FINISHED, RunState.FAILED)

    @property
    def slug(self) -> str:
        """The state as a word of a routing key."""
        return self.name.lower().replace("_", "-")


_ORDER = (
    RunState.READY,
    RunState.PRE_PROCESSING,
    RunState.STUDENTS,
    RunState.POST_PROCESSING,
    RunState.FINISHED,
)

PHASE_OF = {
    RunState.PRE_PROCESSING: Phase.PRE_PROCESSING,
    RunState.STUDENTS: Phase.STUDENTS,
    RunState.POST_PROCESSING: Phase.POST_PROCESSING,
}

PIPELINE_OF = {
    Phase.PRE_PROCESSING: "pre_processing_pipeline",
    Phase.STUDENTS: "student_pipeline",
    Phase.POST_PROCESSING: "post_processing_pipeline",
}


STATE_OF = {phase: state for state, phase in PHASE_OF.items()}


class OrderKind(StrEnum):
    """What may be wanted of a run that exists."""

    CANCEL = "cancel"
    SUPERSEDE = "supersede"
    RERUN = "rerun"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done to a run's jobs before the run goes on. It is stored with the run, and so never half done.

    ``jobs`` are those to run again, each with the generation in which it was found; the other kinds are for all.
    """

    kind: OrderKind
    reason: str = ""
    jobs: tuple[tuple[str, int], ...] = ()


class NothingToDoError(ValueError):
    """No job of the run is as the order wants it; the text says so."""


@dataclass(frozen=True, slots=True)
class Run:
    """One grading run as it is stored, with the assignment config that was frozen when it was submitted.

    ``publish_at`` is set while the jobs of its phase may not all have been published: the outbox. ``round`` is raised
    by every order, so that nobody takes a step that an order has overtaken. ``request_digest`` tells a repeated
    submission from another one with the same idempotency key. ``trigger`` is what brought the run, if not a request.
    """

    id: str
    course: str
    assignment: str
    state: RunState
    started_at: datetime
    config: Mapping[str, Any]
    students_env: list[Env]
    pre_processing_env: Env | None = None
    post_processing_env: Env | None = None
    pool: str = "default"
    finished_at: datetime | None = None
    success: bool | None = None
    publish_at: datetime | None = None
    round: int = 1
    order: Order | None = None
    request_digest: str | None = None
    traceparent: str | None = None
    trigger: Mapping[str, Any] | None = None

    @property
    def context(self) -> dict[str, str]:
        """What log lines about the run say of it."""
        return log_ids(self.traceparent, course=self.course, run=self.id)

    @property
    def job_class(self) -> JobClass:
        """A run for one student is waited for; a roster is not."""
        return JobClass.INTERACTIVE if len(self.students_env) <= 1 else JobClass.BULK

    @property
    def phase(self) -> Phase | None:
        """The phase whose jobs are under way, if any."""
        return PHASE_OF.get(self.state)

    def pipeline(self, phase: Phase) -> list[dict[str, Any]]:
        """The stages of a phase; empty when the assignment has none."""
        return self.config.get(PIPELINE_OF[phase]) or []

    def envs(self, phase: Phase) -> list[Env]:
        """One environment for each job of a phase."""
        if not self.pipeline(phase):
            return []
        if phase is Phase.PRE_PROCESSING:
            return [self.pre_processing_env or {}]
        if phase is Phase.POST_PROCESSING:
            return [self.post_processing_env or {}]
        return self.students_env

    def next_state(self, *, phase_succeeded: bool) -> RunState:
        """Where the run goes when its present phase is complete: on to the next phase that has jobs, or to its end.

        A failed pre- or post-processing job fails the run; failed students do not.
        """
        if self.phase in (Phase.PRE_PROCESSING, Phase.POST_PROCESSING) and not phase_succeeded:
            return RunState.FAILED
        later = _ORDER[_ORDER.index(self.state) + 1 :]
        return next(s for s in later if s is RunState.FINISHED or self.envs(PHASE_OF[s]))


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that a phase needs, with the stages it will run."""

    job: Job
    stages: list[dict[str, Any]]


def job_id(run_id: str, phase: Phase, index: int) -> str:
    """The id of a run's job: 24 hex digits, the same whenever the phase is planned again."""
    return hashlib.sha256(f"{run_id}/{phase}/{index}".encode()).hexdigest()[:24]


def plan_jobs(run: Run, phase: Phase, now: datetime) -> list[PlannedJob]:
    """The jobs of one phase, in the roster's order. Planning a phase twice gives the same ids."""
    return [_plan(run, phase, index, env, now) for index, env in enumerate(run.envs(phase))]


def _plan(run: Run, phase: Phase, index: int, env: Env, now: datetime) -> PlannedJob:
    identity = job_id(run.id, phase, index)
    job = Job(
        id=identity,
        run_id=run.id,
        course=run.course,
        assignment=run.assignment,
        phase=phase,
        index=index,
        job_class=run.job_class,
        pool=run.pool,
        queued_at=now,
        round=run.round,
        traceparent=run.traceparent,
    )
    stages = prepare_stages(
        run.pipeline(phase), shared=run.config.get("env"), job_env=env, run_id=run.id, job_id=identity
    )
    return PlannedJob(job, stages)


def rerun_order(jobs: Sequence[Job], *, only: Collection[str] | None, failed: bool) -> tuple[RunState, Order]:
    """The order to run jobs again, and the state in which the run starts over: the phase of the first of them.

    What comes after that phase is run again by itself when the run gets there. Nor does the run leave a phase that has
    open jobs, whichever later ones are wanted.

    Args:
        jobs: All of the run.
        only: Ids of the jobs that are wanted; all when None.
        failed: Only those that have ended in anything but success.

    Raises:
        NothingToDoError: There is no such job.
    """
    wanted = [
        job
        for job in jobs
        if (only is None or job.id in only) and (not failed or (job.is_terminal and not job.success))
    ]
    if not wanted:
        raise NothingToDoError("no job of this run has failed" if failed else "the run has no such job")
    concerned = {job.phase for job in jobs if not job.is_terminal} | {job.phase for job in wanted}
    phase = next(phase for phase in Phase if phase in concerned)
    of_phase = tuple((job.id, job.generation) for job in wanted if job.phase is phase)
    return STATE_OF[phase], Order(OrderKind.RERUN, jobs=of_phase)

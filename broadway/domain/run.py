"""Grading runs: phases, states and the jobs of each phase. Pure."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from broadway.domain.abilities import needed
from broadway.domain.assignment import Env, prepare_stages
from broadway.domain.handed_in import HandedIn, digest_of_config
from broadway.domain.job import Job, JobClass, JobState, Phase
from broadway.domain.stage_kind import with_place
from broadway.domain.trace import log_ids


class RunState(StrEnum):
    """The states of a run; the values are the texts of the original's clients and database."""

    READY = "ready to be started"
    PRE_PROCESSING = "pre processing job has been scheduled"
    STUDENTS = "students grading jobs have been scheduled"
    POST_PROCESSING = "post processing job has been scheduled"
    FINISHED = "grading run is complete"
    FAILED = "grading run failed"

    @property
    def is_terminal(self) -> bool:
        """True if the run is over."""
        return self in (RunState.FINISHED, RunState.FAILED)

    @property
    def slug(self) -> str:
        """The state in the form for routing keys and v2, such as ``pre-processing``."""
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
    """The kinds of orders for an existing run."""

    CANCEL = "cancel"
    SUPERSEDE = "supersede"
    RERUN = "rerun"


@dataclass(frozen=True, slots=True)
class Order:
    """A change to a run's jobs that must be completed before the run goes on; it is stored with the run until then.

    ``jobs`` are the jobs to rerun, as pairs of id and present generation; the other kinds concern all jobs.
    """

    kind: OrderKind
    reason: str = ""
    jobs: tuple[tuple[str, int], ...] = ()

    @property
    def ends_run(self) -> bool:
        """True if no job of the run may start any more."""
        return self.kind is not OrderKind.RERUN


class NothingToDoError(ValueError):
    """The order fits no job of the run; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class Run:
    """One stored grading run, with the assignment config of the time of its submission.

    ``publish_at`` is set while jobs of its phase may be unpublished: the outbox. Each order raises ``round``, so that
    no outdated step is taken after an order. ``success`` is the original's: True for every run that is complete; with
    ``is_ungraded`` every student's job of such a run ended as an infrastructure error. ``config_round`` is the round
    for which the config was stored: that of the submission, or of a rerun with a later config. ``request_digest``
    distinguishes a repeated submission from a different one with the same idempotency key. ``trigger`` describes the
    webhook delivery that started the run, if any. ``students`` is the number of its students, also if their
    environments are left out; None for a run of an earlier version. ``regrade`` is the id of the regrade that the run
    is a part of: such a run is in no list, and its jobs wait for all others of the course.
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
    is_ungraded: bool = False
    publish_at: datetime | None = None
    round: int = 1
    config_round: int = 1
    order: Order | None = None
    request_digest: str | None = None
    traceparent: str | None = None
    trigger: Mapping[str, Any] | None = None
    students: int | None = field(default=None, compare=False)
    regrade: str | None = None

    @property
    def context(self) -> dict[str, str]:
        """The ids of the run in log lines."""
        return log_ids(self.traceparent, course=self.course, run=self.id)

    @property
    def job_class(self) -> JobClass:
        """The class of the run's jobs: interactive for one student, bulk for a roster, and for a regrade."""
        return JobClass.INTERACTIVE if len(self.students_env) <= 1 and not self.regrade else JobClass.BULK

    @property
    def phase(self) -> Phase | None:
        """The present phase, or None before the first and after the last one."""
        return PHASE_OF.get(self.state)

    @property
    def has_succeeded(self) -> bool | None:
        """True if the run is complete and has graded at least one student; None before its end."""
        return self.success and not self.is_ungraded

    def pipeline(self, phase: Phase) -> list[dict[str, Any]]:
        """Return the stages of a phase; empty if the assignment has no pipeline for it."""
        return self.config.get(PIPELINE_OF[phase]) or []

    def envs(self, phase: Phase) -> list[Env]:
        """Return the environments of a phase, one for each of its jobs."""
        if not self.pipeline(phase):
            return []
        if phase is Phase.PRE_PROCESSING:
            return [self.pre_processing_env or {}]
        if phase is Phase.POST_PROCESSING:
            return [self.post_processing_env or {}]
        return self.students_env

    def next_state(self, *, phase_succeeded: bool) -> RunState:
        """Return the state after the present phase is complete: that of the next phase with jobs, or the run's end.

        A failed pre- or post-processing job fails the run; failed students' jobs do not.
        """
        if self.phase in (Phase.PRE_PROCESSING, Phase.POST_PROCESSING) and not phase_succeeded:
            return RunState.FAILED
        later = _ORDER[_ORDER.index(self.state) + 1 :]
        return next(s for s in later if s is RunState.FINISHED or self.envs(PHASE_OF[s]))


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job of a phase, with the stages that it will run."""

    job: Job
    stages: list[dict[str, Any]]


def job_id(run_id: str, phase: Phase, index: int) -> str:
    """Return the id of a run's job: 24 hex digits, the same whenever the phase is planned again."""
    return hashlib.sha256(f"{run_id}/{phase}/{index}".encode()).hexdigest()[:24]


def plan_jobs(run: Run, phase: Phase, now: datetime) -> list[PlannedJob]:
    """Return the jobs of a phase, in the roster's order. Planning a phase twice gives the same ids."""
    config = digest_of_config(run.config) if phase is Phase.STUDENTS else ""
    return [_plan(run, phase, index, env, now, config) for index, env in enumerate(run.envs(phase))]


def _plan(run: Run, phase: Phase, index: int, env: Env, now: datetime, config: str) -> PlannedJob:
    identity = job_id(run.id, phase, index)
    stages = prepare_stages(
        run.pipeline(phase), shared=run.config.get("env"), job_env=env, run_id=run.id, job_id=identity
    )
    stages = with_place(stages, course=run.course, assignment=run.assignment)
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
        needs=needed(stages),
        handed_in=HandedIn.of(env, identity, config=config, trigger=run.trigger) if phase is Phase.STUDENTS else None,
    )
    return PlannedJob(job, stages)


@dataclass(frozen=True, slots=True)
class JobOutline:
    """The few fields of a stored job that orders for a whole run need; a run may have thousands of jobs."""

    id: str
    phase: Phase
    index: int
    state: JobState
    generation: int = 1
    success: bool = False

    @property
    def is_open(self) -> bool:
        """True unless the job has finished."""
        return self.state is not JobState.FINISHED


def rerun_order(jobs: Sequence[JobOutline], *, only: Collection[str] | None, failed: bool) -> tuple[RunState, Order]:
    """Return the order to rerun jobs, and the run's new state: the earliest phase with an open job or one to rerun.

    The order has only the jobs of that phase, since the run itself reruns all later phases.

    Args:
        jobs: All jobs of the run.
        only: Ids of the jobs to rerun; None for all.
        failed: Rerun only jobs that have ended without success.

    Raises:
        NothingToDoError: No job of the run fits.
    """
    chosen = [
        job for job in jobs if (only is None or job.id in only) and (not failed or not (job.is_open or job.success))
    ]
    if not chosen:
        raise NothingToDoError("no job of this run has failed" if failed else "the run has no such job")
    concerned = {job.phase for job in jobs if job.is_open} | {job.phase for job in chosen}
    phase = next(phase for phase in Phase if phase in concerned)
    of_phase = tuple((job.id, job.generation) for job in chosen if job.phase is phase)
    return STATE_OF[phase], Order(OrderKind.RERUN, jobs=of_phase)

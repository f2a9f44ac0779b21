"""`/grading_run…`: starting a run and reading how it goes."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.assignment import Env
from broadway.domain.course import COURSE_ID
from broadway.domain.job import Job, JobState, Outcome, Phase
from broadway.domain.run import Run
from broadway.ingest.commands.submit import RunRequest, Submission, Submitted, digest_of, run_id_of
from broadway.ingest.http.answers import Refused, success
from broadway.ingest.http.auth import authorize
from broadway.ingest.http.bodies import read
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views import JobSummary, Page, RunDetail, RunView, job_summary, run_detail, run_fields
from broadway.lifecycle.phases import Advanced
from broadway.mongo.runs import cursor
from broadway.ports import PublishError
from broadway.runtime import fault_history

if TYPE_CHECKING:
    from broadway.ingest.app import Deps

log = structlog.get_logger(__name__)

NOT_FOUND = "grading run with the given ID not found"
MAX_KEY = 255  # characters

IDEMPOTENCY = {"Idempotency-Key": "the client's name for this submission: however often it comes, it makes one run"}


class RunOrder(BaseModel):
    """What a run is to be over: ``students`` of the roster, or ``students_env``, an environment for each job."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    students: Literal["all"] | list[str] | None = None
    students_env: list[Env] | None = None
    pre_processing_env: Env = {}
    post_processing_env: Env = {}

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.students is None) is (self.students_env is None):
            raise ValueError("expected either students or students_env")
        return self


class RunQuery(PageQuery):
    """Which runs of a course are wanted."""

    assignment: str | None = Field(default=None, pattern=COURSE_ID, max_length=100, description="only of this one")


class JobQuery(PageQuery):
    """Which jobs of a run are wanted."""

    state: JobState | None = Field(default=None, description="only those in this state")
    outcome: Outcome | None = Field(default=None, description="only those with this outcome")

    def admits(self, job: Job) -> bool:
        return self.state in (None, job.state) and self.outcome in (None, job.outcome)


_STATE_TEXT = {
    "queued": "grading job has been scheduled",
    "started": "grading job is running",
    "failed": "grading job failed",
    "succeeded": "grading job was successful",
}


async def start(request: Request, deps: "Deps") -> Response:
    """Start a run; when it is answered, its first jobs are in every read. Publishing them comes after the answer."""
    course = await authorize(request, deps.courses)
    key = _idempotency_key(request)
    wanted = await read(request, RunRequest, limit=deps.settings.max_body_size)
    submission = Submission(course, request.path_params["assignment"], wanted, traceparent=request.state.traceparent)
    submitted = await deps.submissions.submit(submission, key=key)
    fault_history.note("submitted", run=submitted.run_id, course=course.id, students=len(wanted.students_env))
    _begin(submitted, deps)
    return success({"grading_run_id": submitted.run_id})


def _begin(submitted: Submitted, deps: "Deps") -> None:
    if step := submitted.step:
        log.info("run submitted", assignment=step.run.assignment, jobs=len(step.queued), **step.run.context)
        deps.later(announce_quietly(step, deps))


def _idempotency_key(request: Request) -> str | None:
    """The client's key. Quotes around it, which RFC 8941 wants and few clients send, do not count."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    key = key.strip().removeprefix('"').removesuffix('"')
    if not 0 < len(key) <= MAX_KEY:
        raise Refused(400, f"Idempotency-Key: should have 1 to {MAX_KEY} characters")
    return key


async def announce_quietly(step: Advanced, deps: "Deps") -> None:
    """Tell of a step; what the broker does not take, the reconciler tells later."""
    try:
        await deps.announcer.announce(step)
    except PublishError as error:
        log.warning("run not announced", error=str(error), **step.run.context)


async def status(request: Request, deps: "Deps") -> Response:
    """The state of a run and of each of its jobs."""
    run = await own_run(request, deps, query=True)
    by_phase = _by_phase(await deps.store.jobs.of_run(run.id))
    return success(
        {
            "state": run.state.value,
            "pre_processing_job_state": _states(by_phase[Phase.PRE_PROCESSING]) or None,
            "post_processing_job_state": _states(by_phase[Phase.POST_PROCESSING]) or None,
            "student_jobs_state": _states(by_phase[Phase.STUDENTS]),
        }
    )


async def environments(request: Request, deps: "Deps") -> Response:
    """The variables of each job, with the distinct values they have over its stages."""
    run = await own_run(request, deps, query=False)
    stages = await deps.store.jobs.stages_of_run(run.id)
    by_phase = _by_phase(await deps.store.jobs.of_run(run.id))

    def of_phase(phase: Phase) -> dict[str, dict[str, list[Any]]]:
        return {job.id: _variables(stages.get(job.id, [])) for job in by_phase[phase]}

    return success(
        {
            "pre_processing_env": of_phase(Phase.PRE_PROCESSING) or None,
            "post_processing_env": of_phase(Phase.POST_PROCESSING) or None,
            "student_env": of_phase(Phase.STUDENTS),
        }
    )


@operation(RunDetail)
async def describe(request: Request, deps: "Deps") -> Response:
    """A run with what v1 has no words for: outcomes, reasons, times, attempts, of each phase and each job."""
    run = await own_run(request, deps, query=True, missing=404)
    jobs = await deps.store.jobs.of_run(run.id)
    stages = await deps.store.jobs.stages_of_run(run.id)
    return answered(run_detail(run, jobs, stages))


@operation(RunView, status=201, body=RunOrder, headers=IDEMPOTENCY, refusals=(404, 422))
async def create(request: Request, deps: "Deps") -> Response:
    """Start a run over a roster: the assignment's own, some of it, or environments that are given."""
    course = await authorize(request, deps.courses)
    key = _idempotency_key(request)
    wanted = await read(request, RunOrder, limit=deps.settings.max_body_size)
    assignment = request.path_params["assignment"]
    if await deps.store.assignments.get(course.id, assignment) is None:
        raise Refused(404, "this course has no such assignment")
    submitted = await _repeated(course.id, assignment, wanted, key, deps) if key else None
    if submitted is None:
        asked = await _run_request(course.id, assignment, wanted, deps)
        submission = Submission(course, assignment, asked, traceparent=request.state.traceparent, asked=wanted)
        submitted = await deps.submissions.submit(submission, key=key)
    run = await deps.store.runs.get(submitted.run_id)
    assert run is not None  # noqa: S101 - it is stored, and nobody removes runs
    students = len(run.students_env)
    fault_history.note("submitted", run=run.id, course=course.id, students=students)
    _begin(submitted, deps)
    where = f"/api/v2/courses/{course.id}/runs/{run.id}"
    return answered(RunView(**run_fields(run, students=students)), 201, {"Location": where})


@operation(Page[RunView], query=RunQuery)
async def list_runs(request: Request, deps: "Deps") -> Response:
    """A course's runs, latest first."""
    course = await authorize(request, deps.store.courses)
    wanted = query_of(request, RunQuery)
    names = [wanted.assignment] if wanted.assignment else await deps.store.assignments.names(course.id)
    found = await deps.store.runs.of_assignments(
        [f"{course.id}/{name}" for name in names], before=wanted.after, limit=wanted.limit + 1
    )
    page = found[: wanted.limit]
    more = cursor(page[-1].started_at, page[-1].id) if len(found) > len(page) else None
    return answered(Page[RunView](items=[RunView(**run_fields(run)) for run in page], next=more))


@operation(Page[JobSummary], query=JobQuery)
async def list_jobs(request: Request, deps: "Deps") -> Response:
    """A run's jobs, in the order of phases and of the roster."""
    run = await own_run(request, deps, query=False, missing=404)
    wanted = query_of(request, JobQuery)
    jobs = await deps.store.jobs.of_run(run.id)
    start = 0
    if wanted.after:
        start = next((index + 1 for index, job in enumerate(jobs) if job.id == wanted.after), -1)
        if start < 0:
            raise Refused(400, "after: this run has no such job")
    chosen = [job for job in jobs[start:] if wanted.admits(job)]
    page = chosen[: wanted.limit]
    stages = await deps.store.jobs.stages([job.id for job in page])
    more = page[-1].id if len(chosen) > len(page) else None
    items = [job_summary(job, stages.get(job.id, [])) for job in page]
    return answered(Page[JobSummary](items=items, next=more))


async def _repeated(course: str, assignment: str, wanted: RunOrder, key: str, deps: "Deps") -> Submitted | None:
    """What the same order with the same key has made. The roster, which may have changed since, does not matter."""
    return await deps.submissions.repeated(run_id_of(course, key), digest_of(assignment, wanted))


async def _run_request(course: str, assignment: str, wanted: RunOrder, deps: "Deps") -> RunRequest:
    """What is wanted, with the environments of the students that are named."""
    given: dict[str, Any] = wanted.model_dump(exclude_unset=True, exclude={"students"})
    if wanted.students is None:
        return RunRequest(**given)
    roster = await deps.store.rosters.get(course, assignment)
    if roster is None:
        raise Refused(422, "students: this assignment has no roster; put one, or give students_env")
    named = [entry.student for entry in roster.students] if wanted.students == "all" else wanted.students
    entries = {entry.student: entry for entry in roster.students}
    if unknown := [student for student in named if student not in entries]:
        raise Refused(422, f"students: {unknown[0]} is not in the roster of {assignment}")
    envs = [{**entries[student].env, "BROADWAY_STUDENT": student} for student in named]
    return RunRequest(**given, students_env=envs)


async def own_run(request: Request, deps: "Deps", *, query: bool, missing: int = 400) -> Run:
    """The run in the path. Another course's is as unknown as one that does not exist."""
    course = await authorize(request, deps.store.courses, query=query)
    run = await deps.store.runs.summary(request.path_params["run_id"])
    if run is None or run.course != course.id:
        raise Refused(missing, NOT_FOUND)
    return run


def _by_phase(jobs: Iterable[Job]) -> dict[Phase, list[Job]]:
    phases: dict[Phase, list[Job]] = {phase: [] for phase in Phase}
    for job in jobs:
        phases[job.phase].append(job)
    return phases


def _states(jobs: Iterable[Job]) -> dict[str, str]:
    return {job.id: _STATE_TEXT[_v1_state(job)] for job in jobs}


def _v1_state(job: Job) -> str:
    if job.finished_at:
        return "succeeded" if job.success else "failed"
    return "started" if job.started_at else "queued"


def _variables(stages: list[dict[str, Any]]) -> dict[str, list[Any]]:
    values: dict[str, dict[str, Any]] = {}
    for stage in stages:
        for name, value in (stage.get("env") or {}).items():
            # Values may be lists or objects, which a set cannot hold: their JSON text tells them apart.
            values.setdefault(name, {})[json.dumps(value, sort_keys=True)] = value
    return {name: list(distinct.values()) for name, distinct in values.items()}

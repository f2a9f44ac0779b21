"""`/grading_run…`: starting a run and reading how it goes."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broadway import history
from broadway.ingest.auth import authorize
from broadway.ingest.payload import read
from broadway.ingest.responses import CORS, Refused, success
from broadway.ingest.submit import RunRequest, submit
from broadway.job import Job, Phase
from broadway.phases import Advanced, announce
from broadway.ports import PublishError
from broadway.run import Run

if TYPE_CHECKING:
    from broadway.ingest.app import Deps

log = structlog.get_logger(__name__)

NOT_FOUND = "grading run with the given ID not found"
MAX_KEY = 255  # characters

_STATE_TEXT = {
    "queued": "grading job has been scheduled",
    "started": "grading job is running",
    "failed": "grading job failed",
    "succeeded": "grading job was successful",
}


async def start(request: Request, deps: "Deps") -> Response:
    """Start a run; when it is answered, its first jobs are in every read. Publishing them comes after the answer."""
    course = await authorize(request, deps.store.courses)
    key = _idempotency_key(request)
    wanted = await read(request, RunRequest, limit=deps.settings.max_body_size)
    submitted = await submit(
        course,
        request.path_params["assignment"],
        wanted,
        assignments=deps.store.assignments,
        runs=deps.store.runs,
        jobs=deps.store.jobs,
        key=key,
    )
    history.note("submitted", run=submitted.run_id, course=course.id, students=len(wanted.students_env))
    if submitted.step:
        deps.later(announce_quietly(submitted.step, deps))
    return success({"grading_run_id": submitted.run_id})


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
        await announce(step, runs=deps.store.runs, publisher=deps.rabbit)
    except PublishError as error:
        log.warning("run not announced", run=step.run.id, error=str(error))


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


async def describe(request: Request, deps: "Deps") -> Response:
    """A run with what v1 has no words for: outcomes, reasons, times, attempts."""
    run = await own_run(request, deps, query=True, missing=404)
    jobs = await deps.store.jobs.of_run(run.id)
    stages = await deps.store.jobs.stages_of_run(run.id)
    body = {
        "id": run.id,
        "course": run.course,
        "assignment": run.assignment,
        "state": run.state.slug,
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "success": run.success,
        "jobs": [_description(job, stages.get(job.id, [])) for job in jobs],
    }
    return JSONResponse(body, headers=CORS)


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


def _description(job: Job, stages: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": job.id,
        "phase": job.phase.value,
        "state": job.state.value,
        "outcome": job.outcome.value if job.outcome else None,
        "reason": job.reason,
        "fault_phase": job.fault_phase.value if job.fault_phase else None,
        "seconds": job.seconds if job.is_terminal else None,
        "queue_seconds": (job.started_at - job.queued_at).total_seconds() if job.started_at else None,
        "attempts": job.starts,
        "grader": job.worker_id,
        "env": (stages[-1].get("env") or {}) if stages else {},
    }

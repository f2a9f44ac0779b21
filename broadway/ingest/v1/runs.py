"""`/grading_run…`: start a run and read its progress."""

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.job import Job, Phase
from broadway.domain.progress import JobProgress, RunProgress
from broadway.ingest.commands.submit import RunRequest
from broadway.ingest.http.answers import V1_JSON, Refused, success
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.bodies import idempotency_key, read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.representations import answered_from
from broadway.ingest.http.rights import READERS, STAFF, Load, nothing, takes
from broadway.ingest.http.scope import own_run
from broadway.lifecycle.orders import RUN_NOT_FOUND

Known = TypeVar("Known", Job, JobProgress)

_STATE_TEXT = {
    "queued": "grading job has been scheduled",
    "started": "grading job is running",
    "failed": "grading job failed",
    "succeeded": "grading job was successful",
}


@takes(*STAFF, recent=True, before=nothing, operation="startRun")
async def start(request: Request, deps: Deps) -> Response:
    """Start a run. At its answer all reads show its first jobs, which are published afterwards."""
    course = course_of(request)
    key = idempotency_key(request)
    body = await read(request, RunRequest, limit=deps.settings.max_body_size)
    assignment, traceparent = request.path_params["assignment"], request.state.traceparent
    run_id = await deps.starts.start(course, assignment, body, key=key, traceparent=traceparent)
    return success({"grading_run_id": run_id})


@takes(*READERS, recent=True, load=Load.SHARED)
async def status(request: Request, deps: Deps) -> Response:
    """Return the state of a run and of each of its jobs."""
    shared = await deps.reads.progress.of_run(course_of(request).id, request.path_params["run_id"])
    if shared is None:
        raise Refused(400, RUN_NOT_FOUND)
    return answered_from(request, shared, "v1", _status, media_type=V1_JSON)


def _status(progress: RunProgress) -> bytes:
    by_phase = _by_phase(progress.jobs)
    answer = success(
        {
            "state": progress.run.state.value,
            "pre_processing_job_state": _states(by_phase[Phase.PRE_PROCESSING]) or None,
            "post_processing_job_state": _states(by_phase[Phase.POST_PROCESSING]) or None,
            "student_jobs_state": _states(by_phase[Phase.STUDENTS]),
        }
    )
    return bytes(answer.body)


@takes(*STAFF, load=Load.LARGE)
async def environments(request: Request, deps: Deps) -> Response:
    """Return the variables of each job, with the distinct values they have over its stages."""
    run = await own_run(request, deps)
    found = await deps.reads.runs.with_stages(run.id)
    by_phase = _by_phase(found.jobs)

    def of_phase(phase: Phase) -> dict[str, dict[str, list[Any]]]:
        return {job.id: _variables(found.stages.get(job.id, [])) for job in by_phase[phase]}

    return success(
        {
            "pre_processing_env": of_phase(Phase.PRE_PROCESSING) or None,
            "post_processing_env": of_phase(Phase.POST_PROCESSING) or None,
            "student_env": of_phase(Phase.STUDENTS),
        }
    )


def _by_phase(jobs: Iterable[Known]) -> dict[Phase, list[Known]]:
    phases: dict[Phase, list[Known]] = {phase: [] for phase in Phase}
    for job in jobs:
        phases[job.phase].append(job)
    return phases


def _states(jobs: Iterable[JobProgress]) -> dict[str, str]:
    return {job.id: _STATE_TEXT[_v1_state(job)] for job in jobs}


def _v1_state(job: JobProgress) -> str:
    if job.finished_at:
        return "succeeded" if job.success else "failed"
    return "started" if job.started_at else "queued"


def _variables(stages: list[dict[str, Any]]) -> dict[str, list[Any]]:
    values: dict[str, dict[str, Any]] = {}
    for stage in stages:
        for name, value in (stage.get("env") or {}).items():
            # Values may be unhashable lists or objects, so their JSON text is the key.
            values.setdefault(name, {})[json.dumps(value, sort_keys=True)] = value
    return {name: list(distinct.values()) for name, distinct in values.items()}

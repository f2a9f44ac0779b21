"""`/grading_job_log` and `/queue`: a job's log, and the backlog of a course."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.job import Job, JobState
from broadway.ingest.http.answers import Refused, success
from broadway.ingest.http.auth import authorize
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views import AttemptView, JobView, LogView, Page, attempt_view, job_view, log_lines

if TYPE_CHECKING:
    from broadway.ingest.app import Deps

LOG_NOT_FOUND = "grading job with the given ID not found or has not finished"
NOT_FOUND = "grading job with the given ID not found"


async def read_log(request: Request, deps: "Deps") -> Response:
    """What a finished job wrote."""
    job = await own_job(request, deps, query=False, otherwise=LOG_NOT_FOUND)
    log = await deps.store.logs.get(job.id, job.execution_id) if job.is_terminal else None
    if log is None:
        raise Refused(400, LOG_NOT_FOUND)
    return success({"stderr": log.stderr, "stdout": log.stdout})


async def queue_length(request: Request, deps: "Deps") -> Response:
    """How many jobs of the course wait."""
    course = await authorize(request, deps.store.courses)
    return success({"length": await deps.store.jobs.count_waiting(course.id)})


async def queue_position(request: Request, deps: "Deps") -> Response:
    """How many jobs of the course start before this one."""
    job = await own_job(request, deps, query=True, otherwise=NOT_FOUND)
    is_lost = not job.course  # it was in the original's queue, which has ended with it
    if job.state not in (JobState.QUEUED, JobState.DISPATCHED) or job.started_at or is_lost:
        raise Refused(400, f"{job.id} has already passed through the queue")
    return success({"position": await deps.store.jobs.position(job)})


@operation(JobView)
async def describe(request: Request, deps: "Deps") -> Response:
    """A job with all that is known of it."""
    job = await own_job(request, deps, query=False, otherwise=NOT_FOUND, missing=404)
    stages = await deps.store.jobs.stages([job.id])
    return answered(job_view(job, stages.get(job.id, [])))


@operation(Page[AttemptView])
async def list_attempts(request: Request, deps: "Deps") -> Response:
    """Every start of a job, in order: where, when, and what it came to."""
    job = await own_job(request, deps, query=False, otherwise=NOT_FOUND, missing=404)
    return answered(Page[AttemptView](items=[attempt_view(attempt) for attempt in job.attempts], next=None))


@operation(LogView)
async def describe_log(request: Request, deps: "Deps") -> Response:
    """A job's log line by line, with its stages and streams."""
    job = await own_job(request, deps, query=False, otherwise=NOT_FOUND, missing=404)
    kept = await deps.store.logs.get(job.id, job.execution_id) if job.is_terminal else None
    if kept is None:
        raise Refused(404, LOG_NOT_FOUND)
    return answered(LogView(job=job.id, lines=log_lines(kept.stdout, job.results or []), error=kept.stderr))


async def own_job(request: Request, deps: "Deps", *, query: bool, otherwise: str, missing: int = 400) -> Job:
    """The job in the path. Another course's is as unknown as one that does not exist."""
    course = await authorize(request, deps.store.courses, query=query)
    job = await deps.store.jobs.get(request.path_params["job_id"])
    run = await deps.store.runs.summary(job.run_id) if job else None
    if job is None or run is None or run.course != course.id:
        raise Refused(missing, otherwise)
    return job

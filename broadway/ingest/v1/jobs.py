"""`/grading_job_log` and `/queue`: a job's log, and the backlog of a course."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.answers import Refused, success
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import READERS, STAFF, takes
from broadway.ingest.http.scope import LOG_NOT_FOUND, own_job


@takes(*STAFF)
async def read_log(request: Request, deps: Deps) -> Response:
    """Return the output of a finished job."""
    job = await own_job(request, deps, otherwise=LOG_NOT_FOUND)
    log = await deps.reads.jobs.log(job)
    if log is None:
        raise Refused(400, LOG_NOT_FOUND)
    return success({"stderr": log.stderr, "stdout": log.stdout})


@takes(*STAFF)
async def queue_length(request: Request, deps: Deps) -> Response:
    """Return the number of the course's waiting jobs."""
    course = course_of(request)
    return success({"length": await deps.reads.jobs.waiting(course.id)})


@takes(*READERS)
async def queue_position(request: Request, deps: Deps) -> Response:
    """Return the number of the course's jobs that start before this one."""
    job = await own_job(request, deps)
    position = await deps.reads.jobs.position(job)
    if position is None:
        raise Refused(400, f"{job.id} has already passed through the queue")
    return success({"position": position})

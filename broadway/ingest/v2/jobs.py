"""`/jobs`: a job, its attempts and its log."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.answers import Refused
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.scope import LOG_NOT_FOUND, own_job
from broadway.ingest.reads.log_lines import log_lines
from broadway.ingest.v2.attempts import AttemptQuery
from broadway.ingest.v2.openapi import answered, operation, query_of
from broadway.ingest.v2.views.jobs import attempt_view, job_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.jobs import AttemptView, JobView, LogView


@operation(JobView)
async def describe(request: Request, deps: Deps) -> Response:
    """Get a job with its times, attempts, stages and scores."""
    job = await own_job(request, deps, missing=404)
    found = await deps.reads.jobs.with_stages(job)
    graders = None if job.is_terminal else await deps.reads.graders.alive()
    settings = (await deps.reads.assignments.settings(job.course, job.assignment)).settings
    return answered(job_view(found.job, found.stages, graders, most=settings.points))


@operation(Page[AttemptView])
async def list_attempts(request: Request, deps: Deps) -> Response:
    """List a job's attempts, oldest first, each with its grader, times and outcome."""
    job = await own_job(request, deps, missing=404)
    return answered(Page[AttemptView](items=[attempt_view(attempt) for attempt in job.attempts], next=None))


@operation(LogView, query=AttemptQuery)
async def describe_log(request: Request, deps: Deps) -> Response:
    """Get the log of a job's attempt by line, with the stage and the stream of each line.

    The logs of all attempts are kept, also when the job runs again.
    """
    job = await own_job(request, deps, missing=404)
    attempt = query_of(request, AttemptQuery).attempt
    reads = deps.reads.jobs
    kept = await (reads.log(job) if attempt is None else reads.log_of_attempt(job, attempt))
    if kept is None:
        raise Refused(404, LOG_NOT_FOUND)
    return answered(LogView(job=job.id, lines=log_lines(kept.stdout, kept.streams), error=kept.stderr))

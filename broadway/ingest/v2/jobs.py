"""`/jobs`: a job, its attempts and its log."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.deps import Deps
from broadway.ingest.http.scope import own_job
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views.jobs import attempt_view, job_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.jobs import AttemptView, JobView


@operation(JobView)
async def describe(request: Request, deps: Deps) -> Response:
    """Get a job with its times, attempts, stages and scores."""
    job = await own_job(request, deps, missing=404)
    found = await deps.reads.jobs.with_stages(job)
    graders = None if job.is_terminal else await deps.reads.graders.alive()
    place = None if job.is_terminal else await deps.reads.waiting.place(job)
    settings = (await deps.reads.assignments.settings(job.course, job.assignment)).settings
    return answered(job_view(found.job, found.stages, graders, place, most=settings.points))


@operation(Page[AttemptView])
async def list_attempts(request: Request, deps: Deps) -> Response:
    """List a job's attempts, oldest first, each with its grader, times and outcome."""
    job = await own_job(request, deps, missing=404)
    return answered(Page[AttemptView](items=[attempt_view(attempt) for attempt in job.attempts], next=None))

"""`/runs`: start runs, list them, and read them with their jobs."""

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.course import COURSE_ID
from broadway.domain.job import Job, JobState, Outcome
from broadway.ingest.commands.start import RunOrder
from broadway.ingest.http.auth import authorize
from broadway.ingest.http.bodies import idempotency_key, read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.scope import own_run
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.jobs import job_summary
from broadway.ingest.v2.views.runs import run_detail, run_fields
from broadway.messages.resources.base import Page
from broadway.messages.resources.jobs import JobSummary
from broadway.messages.resources.runs import RunDetail, RunView

IDEMPOTENCY = {"Idempotency-Key": "the client's name for this submission: however often it comes, it makes one run"}


class RunQuery(PageQuery):
    """Which runs of a course are wanted."""

    assignment: str | None = Field(default=None, pattern=COURSE_ID, max_length=100, description="only of this one")


class JobQuery(PageQuery):
    """Which jobs of a run are wanted."""

    state: JobState | None = Field(default=None, description="only those in this state")
    outcome: Outcome | None = Field(default=None, description="only those with this outcome")

    def admits(self, job: Job) -> bool:
        return self.state in (None, job.state) and self.outcome in (None, job.outcome)


@operation(RunDetail)
async def describe(request: Request, deps: Deps) -> Response:
    """A run with what v1 has no words for: outcomes, reasons, times, attempts, of each phase and each job."""
    run = await own_run(request, deps, query=True, missing=404)
    found = await deps.reads.runs.with_stages(run.id)
    return answered(run_detail(run, found.jobs, found.stages))


@operation(RunView, status=201, body=RunOrder, headers=IDEMPOTENCY, refusals=(404, 422))
async def create(request: Request, deps: Deps) -> Response:
    """Start a run over a roster: the assignment's own, some of it, or environments that are given."""
    course = await authorize(request, deps.recent_courses)
    key = idempotency_key(request)
    wanted = await read(request, RunOrder, limit=deps.settings.max_body_size)
    assignment, traceparent = request.path_params["assignment"], request.state.traceparent
    run = await deps.starts.start_over_roster(course, assignment, wanted, key=key, traceparent=traceparent)
    where = f"/api/v2/courses/{course.id}/runs/{run.id}"
    return answered(RunView(**run_fields(run, students=len(run.students_env))), 201, {"Location": where})


@operation(Page[RunView], query=RunQuery)
async def list_runs(request: Request, deps: Deps) -> Response:
    """A course's runs, latest first."""
    course = await authorize(request, deps.courses)
    wanted = query_of(request, RunQuery)
    page = await deps.reads.runs.latest(course.id, assignment=wanted.assignment, after=wanted.after, limit=wanted.limit)
    return answered(Page[RunView](items=[RunView(**run_fields(run)) for run in page.items], next=page.next))


@operation(Page[JobSummary], query=JobQuery)
async def list_jobs(request: Request, deps: Deps) -> Response:
    """A run's jobs, in the order of phases and of the roster."""
    run = await own_run(request, deps, query=False, missing=404)
    wanted = query_of(request, JobQuery)
    page = await deps.reads.runs.jobs_page(run.id, after=wanted.after, limit=wanted.limit, admits=wanted.admits)
    items = [job_summary(each.job, each.stages) for each in page.items]
    return answered(Page[JobSummary](items=items, next=page.next))

"""`/runs`: start runs, list them, and read them and their jobs."""

from collections.abc import Callable

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind
from broadway.domain.job import Job, JobState, Outcome
from broadway.domain.names import COURSE_ID
from broadway.domain.progress import RunProgress
from broadway.domain.work import final_marks
from broadway.ingest.commands.start import RunOrder
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import idempotency_key, read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.representations import CONDITION, answered_from
from broadway.ingest.http.rights import READERS, Load, nothing
from broadway.ingest.http.scope import missing_text, own_run
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.jobs import job_summary
from broadway.ingest.v2.views.points import points_of
from broadway.ingest.v2.views.runs import run_detail, run_fields, submitter
from broadway.lifecycle.orders import RUN_NOT_FOUND
from broadway.messages.resources.base import Page
from broadway.messages.resources.jobs import JobSummary
from broadway.messages.resources.runs import RunDetail, RunSummary, RunView

IDEMPOTENCY = {"Idempotency-Key": "the client's name for this submission: repeated requests make one run"}


class RunQuery(PageQuery):
    """The query of a list of runs."""

    assignment: str | None = Field(
        default=None, pattern=COURSE_ID, max_length=100, description="return only this assignment's runs"
    )


class JobQuery(PageQuery):
    """The query of a list of jobs."""

    state: JobState | None = Field(default=None, description="return only jobs in this state")
    outcome: Outcome | None = Field(default=None, description="return only jobs with this outcome")

    @property
    def filter(self) -> Callable[[Job], bool] | None:
        """The condition for a job to be in the list; None if all jobs are."""
        return self._admits if self.state or self.outcome else None

    def _admits(self, job: Job) -> bool:
        return self.state in (None, job.state) and self.outcome in (None, job.outcome)


@operation(RunDetail, auth=READERS, recent=True, load=Load.SHARED, headers=CONDITION, also={304: None})
async def describe(request: Request, deps: Deps) -> Response:
    """Get a run with its phases: their times, and the outcomes of their jobs. `…/jobs` has the jobs themselves."""
    shared = await deps.reads.progress.of_run(course_of(request).id, request.path_params["run_id"])
    if shared is None:
        raise Refused(404, await missing_text(request, deps, request.path_params["run_id"], RUN_NOT_FOUND))
    return answered_from(request, shared, "v2", _detail, media_type="application/json")


def _detail(progress: RunProgress) -> bytes:
    return run_detail(progress).model_dump_json().encode()


@operation(RunView, status=201, body=RunOrder, headers=IDEMPOTENCY, refusals=(404, 422), recent=True, before=nothing)
async def create(request: Request, deps: Deps) -> Response:
    """Start a run over an assignment's roster, a part of it, or the given environments."""
    course = course_of(request)
    key = idempotency_key(request)
    order = await read(request, RunOrder, limit=deps.settings.max_body_size)
    assignment, traceparent = request.path_params["assignment"], request.state.traceparent
    run = await deps.starts.start_over_roster(course, assignment, order, key=key, traceparent=traceparent)
    location = f"/api/v2/courses/{course.id}/runs/{run.id}"
    return answered(RunView(**run_fields(run, students=run.students)), 201, {"Location": location})


@operation(Page[RunSummary], query=RunQuery)
async def list_runs(request: Request, deps: Deps) -> Response:
    """List a course's runs, latest first; those that a submission or a push started have its points."""
    course = course_of(request)
    query = query_of(request, RunQuery)
    page = await deps.reads.runs.latest(course.id, assignment=query.assignment, after=query.after, limit=query.limit)
    jobs = await deps.reads.runs.of_submissions(page.items)
    most = {
        name: (await deps.reads.assignments.settings(course.id, name)).settings.points
        for name in {job.assignment for job in jobs.values()}
    }
    items = [
        RunSummary(**run_fields(run), **points_of(final_marks(job), most[job.assignment]) if job else {})
        for run in page.items
        for job in [jobs.get(run.id)]
    ]
    return answered(Page[RunSummary](items=items, next=page.next))


@operation(Page[JobSummary], query=JobQuery, auth=READERS, load=Load.LARGE)
async def list_jobs(request: Request, deps: Deps) -> Response:
    """List a run's jobs, by phase and in the roster's order: their outcomes, reasons, points, times and attempts.

    The jobs' variables are empty for tokens that may read states only, and their points are null.
    """
    run = await own_run(request, deps, missing=404)
    query = query_of(request, JobQuery)
    page = await deps.reads.runs.jobs_page(run, after=query.after, limit=query.limit, admits=query.filter)
    graders = None if run.state.is_terminal else await deps.reads.graders.alive()
    is_staff = principal_of(request).kind is Kind.COURSE
    most = (await deps.reads.assignments.settings(run.course, run.assignment)).settings.points if is_staff else None
    items = [
        job_summary(each.job, each.stages, graders, for_staff=is_staff, student=submitter(run, each.job), most=most)
        for each in page.items
    ]
    return answered(Page[JobSummary](items=items, next=page.next))

"""`/jobs/…/report`: the result of a submission's tests, for staff and for its student."""

from typing import Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind
from broadway.domain.job import Job
from broadway.domain.submission import student_of
from broadway.domain.visibility import Role
from broadway.ingest.http.answers import CORS, Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.downloads import SAFE
from broadway.ingest.http.rights import Auth
from broadway.ingest.http.scope import JOB_NOT_FOUND, may_read, own_job
from broadway.ingest.v2.attempts import AttemptQuery
from broadway.ingest.v2.openapi import answered, operation, query_of
from broadway.ingest.v2.views.reports import report_view
from broadway.messages.resources.reports import ReportView

NO_REPORT = "the job has no report, or has not ended"
NO_FILE = "the report has no such file"


class ReportQuery(AttemptQuery):
    """The query of a report."""

    view: Literal["staff", "student"] | None = Field(
        default=None, description="`student`: as the student sees it; by default as the token's owner may see it"
    )


@operation(ReportView, query=ReportQuery, auth=(Auth.COURSE, Auth.STUDENT))
async def describe(request: Request, deps: Deps) -> Response:
    """Get the report of a job's attempt: the score, and the result of each test.

    Course staff see all of it, or the student's view. A student sees the reports of that student's own jobs, without
    hidden tests, their names, their number, and totals that would reveal them. Parts that are visible *after the due
    time* appear when the assignment has closed for that student. The reports of all attempts are kept.
    """
    query, principal = query_of(request, ReportQuery), principal_of(request)
    job = await own_job(request, deps, missing=404)
    student = await demand_readable(request, deps, job)
    is_student = principal.kind is Kind.STUDENT or query.view == Role.STUDENT.value
    role = Role.STUDENT if is_student else Role.STAFF
    reader = principal.student or student or ""
    standing = await deps.reads.standings.of_report(course_of(request).id, job.assignment, reader)
    found = await deps.reads.reports.shown(job, query.attempt, role, standing)
    if found is None:
        raise Refused(404, NO_REPORT)
    return answered(report_view(job.id, found, role))


@operation(None, query=AttemptQuery)
async def download(request: Request, deps: Deps) -> Response:
    """Get a results file of a job's attempt, byte by byte as the stage left it, by its hash."""
    query = query_of(request, AttemptQuery)
    job = await own_job(request, deps, missing=404)
    found = await deps.reads.reports.file(job, query.attempt, request.path_params["sha256"])
    if found is None:
        raise Refused(404, NO_FILE)
    return Response(
        found[1], media_type="application/octet-stream", headers={**CORS, **SAFE, "Content-Disposition": "attachment"}
    )


async def demand_readable(request: Request, deps: Deps, job: Job) -> str | None:
    """Return the student or group of a job whose report and log the token of a request may read.

    Raises:
        Refused: 404, the job is another student's.
    """
    student = student_of((await deps.reads.jobs.with_stages(job)).stages)
    if not await may_read(request, deps, job.assignment, student or ""):
        raise Refused(404, JOB_NOT_FOUND)
    return student

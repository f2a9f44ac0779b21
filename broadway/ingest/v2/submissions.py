"""`/submissions`: files that students hand in, and their downloads."""

import contextlib
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind
from broadway.domain.files import FileRefusedError
from broadway.domain.roster import Student
from broadway.domain.submission import Submission
from broadway.domain.visibility import Role
from broadway.ingest.commands.limits import QuotaError
from broadway.ingest.commands.start import NO_SUCH_ASSIGNMENT
from broadway.ingest.commands.upload import Upload
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import BodyTooLargeError, idempotency_key
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.downloads import stored_file, streamed
from broadway.ingest.http.rights import Auth, Load, nothing
from broadway.ingest.http.scope import may_read, missing_text
from broadway.ingest.http.uploads import uploaded
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.submissions import submission_summary, submission_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.submissions import RemovedSubmissions, SubmissionSummary, SubmissionView
from broadway.runtime import metrics

SUBMITTERS = (Auth.COURSE, Auth.STUDENT)
SUBMISSION_NOT_FOUND = "this course has no such submission"


class SubmitQuery(BaseModel):
    """The query of a new submission."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student: Student | None = Field(
        default=None, description="the student or the group; staff must name it, a student's own token may not"
    )


class SubmissionsQuery(PageQuery):
    """The query of a list of submissions."""

    student: Student | None = Field(default=None, description="return only this student's or group's submissions")


class RemovalQuery(BaseModel):
    """The query of a removal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student: Student = Field(description="the student or the group")


@operation(
    SubmissionView,
    status=201,
    also={200: SubmissionView},
    auth=SUBMITTERS,
    query=SubmitQuery,
    refusals=(400, 408, 409, 413, 415, 422),
    headers={"Idempotency-Key": "the client's name for the submission, the same for each repetition of the request"},
    before=nothing,
)
async def create(request: Request, deps: Deps) -> Response:
    """Hand in files for an assignment: a form with files, a zip, or a tar.gz.

    A form's single zip or tar.gz is unpacked unless the assignment expects it as it is. 201: the submission is stored.
    200: it was stored by an earlier request with the same key. 409: the assignment is not open, or no attempt is left.
    422: the files are refused. Both texts are for the student. A member of a group hands in for the group.
    """
    course, assignment = course_of(request).id, request.path_params["assignment"]
    named = _submitter(request, query_of(request, SubmitQuery).student)
    student = await deps.reads.standings.submitter_of(course, assignment, named)
    if await deps.reads.assignments.config(course, assignment) is None:
        raise Refused(404, NO_SUCH_ASSIGNMENT)
    rules = (await deps.reads.assignments.settings(course, assignment)).settings.files
    key, directory = idempotency_key(request), deps.settings.http.spool_dir
    by, trace = principal_of(request).name, request.state.traceparent
    with _counted(course):
        async with uploaded(request, directory, limit=rules.max_bytes, files=rules.max_files) as files:
            handed_in = await deps.uploads.hand_in(Upload(course, assignment, student, by, files, key, trace))
    location = f"/api/v2/courses/{course}/submissions/{handed_in.submission.id}"
    view = submission_view(handed_in.submission, handed_in.delivery)
    return answered(view, 201 if handed_in.is_new else 200, {"Location": location})


@contextlib.contextmanager
def _counted(course: str) -> Iterator[None]:
    """Count a submission that is refused for its files; those that are stored are counted where that happens."""
    try:
        yield
    except (FileRefusedError, BodyTooLargeError, QuotaError):
        metrics.SUBMISSIONS.labels(course, metrics.HandedIn.REFUSED).inc()
        raise


def _submitter(request: Request, named: str | None) -> str:
    """Return the student or the group of a submission.

    Raises:
        Refused: Staff named no student, or a student named another one.
    """
    principal = principal_of(request)
    if principal.student is not None:
        if named not in (None, principal.student):
            raise Refused(403, "student: this token hands in for its own student only")
        return principal.student
    if named is None:
        raise Refused(400, "student: expected the student or the group of the submission")
    return named


@operation(Page[SubmissionSummary], query=SubmissionsQuery, auth=SUBMITTERS)
async def list_submissions(request: Request, deps: Deps) -> Response:
    """List the submissions for an assignment, latest first; a student's own token lists its own and its group's."""
    query = query_of(request, SubmissionsQuery)
    principal = principal_of(request)
    student = principal.student if principal.kind is Kind.STUDENT else query.student
    course, assignment = course_of(request).id, request.path_params["assignment"]
    names = None if student is None else await deps.reads.standings.names_of(course, assignment, student)
    page = await deps.reads.submissions.latest(course, assignment, names=names, after=query.after, limit=query.limit)
    items = [submission_summary(each) for each in page.items]
    return answered(Page[SubmissionSummary](items=items, next=page.next))


@operation(RemovedSubmissions, query=RemovalQuery, before=nothing)
async def remove(request: Request, deps: Deps) -> Response:
    """Remove all that a student or a group handed in for an assignment, for good.

    Outcomes and scores stay. A job that still waits for a grader ends as an infrastructure error.
    """
    student = query_of(request, RemovalQuery).student
    count = await deps.submission_removal.remove(course_of(request).id, request.path_params["assignment"], student)
    return answered(RemovedSubmissions(count=count))


@operation(SubmissionView, auth=SUBMITTERS)
async def show(request: Request, deps: Deps) -> Response:
    """Get a submission with the names of its files, the state of its grading, and the points that you may see."""
    submission = await _own(request, deps)
    delivery = await deps.reads.submissions.delivery(submission)
    job = await deps.reads.submissions.job(delivery) if delivery else None
    principal = principal_of(request)
    role = Role.STUDENT if principal.kind is Kind.STUDENT else Role.STAFF
    reader = principal.student or submission.student
    standing = await deps.reads.standings.of_report(submission.course, submission.assignment, reader)
    return answered(submission_view(submission, delivery, job, role=role, standing=standing))


@operation(None, auth=SUBMITTERS, refusals=(416,))
async def download(request: Request, deps: Deps) -> Response:
    """Download a file of a submission; ranges and entity tags are supported."""
    submission = await _own(request, deps)
    file = submission.file(request.path_params["path"])
    if file is None:
        raise Refused(404, "this submission has no such file")
    name = file.path.rpartition("/")[2]
    return await stored_file(request, deps, name=name, size=file.size, sha256=file.sha256)


@operation(None, auth=SUBMITTERS, load=Load.LARGE)
async def download_all(request: Request, deps: Deps) -> Response:
    """Download all files of a submission as a zip."""
    submission = await _own(request, deps)
    name = f"{submission.assignment}-{submission.student}-{submission.id}.zip"
    return streamed(request, name=name, media_type="application/zip", content=deps.reads.submissions.zipped(submission))


async def _own(request: Request, deps: Deps) -> Submission:
    """Return the submission in the path; a student's token finds its own and its group's only.

    Raises:
        Refused: 404.
    """
    submission = await deps.reads.submissions.one(course_of(request).id, request.path_params["submission"])
    if submission is None:
        raise Refused(404, await missing_text(request, deps, request.path_params["submission"], SUBMISSION_NOT_FOUND))
    if not await may_read(request, deps, submission.assignment, submission.student):
        raise Refused(404, SUBMISSION_NOT_FOUND)
    return submission

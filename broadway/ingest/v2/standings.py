"""`/students/…/assignments`: the standing of a student in the assignments of a course."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.standings import standing_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.standings import StandingView

NO_STANDING = "this course has no such assignment, or the student takes no part in it"
READERS = (Auth.COURSE, Auth.STUDENT)


@operation(Page[StandingView], query=PageQuery, auth=READERS)
async def list_standings(request: Request, deps: Deps) -> Response:
    """List the assignments of a course that a student takes part in, with the student's own times and attempts.

    Each has its times by the clock of its zone, under the student's extensions; the attempts and late days that are
    left; the latest submissions; and whether a submission would be taken now. A student's token lists its own.
    """
    query, student = query_of(request, PageQuery), _student(request)
    page = await deps.reads.standings.of_course(course_of(request).id, student, after=query.after, limit=query.limit)
    return answered(Page[StandingView](items=[standing_view(each) for each in page.items], next=page.next))


@operation(StandingView, auth=READERS)
async def show(request: Request, deps: Deps) -> Response:
    """Get the standing of a student in an assignment: times, attempts, late days, submissions."""
    student = _student(request)
    found = await deps.reads.standings.of_student(course_of(request).id, request.path_params["assignment"], student)
    if found is None:
        raise Refused(404, NO_STANDING)
    return answered(standing_view(found))


def _student(request: Request) -> str:
    """Return the student in the path.

    Raises:
        Refused: 403, it is not the student of the token.
    """
    student: str = request.path_params["student"]
    principal = principal_of(request)
    if principal.kind is Kind.STUDENT and principal.student != student:
        raise Refused(403, "student: this token reads the standing of its own student only")
    return student

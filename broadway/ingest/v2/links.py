"""`…/student-links` and `/sign-in-links`: links with which people sign in to the pages."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.commands.tokens import Issued
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, nothing
from broadway.ingest.v2.openapi import answered, operation
from broadway.messages.resources.links import LinksRequest, LinksView, LinkView

MAX_BODY = 4096  # bytes
NO_ROSTER = "the assignment has no roster; import one first"
_SECRET = {"Cache-Control": "no-store"}


@operation(
    LinksView,
    body=LinksRequest,
    is_body_optional=True,
    auth=(Auth.COURSE,),
    refusals=(404, 409),
    before=nothing,
)
async def add_for_students(request: Request, deps: Deps) -> Response:
    """Make a personal link for each student of an assignment's roster; this answer alone contains them."""
    course = course_of(request)
    body = await read(request, LinksRequest, limit=MAX_BODY, optional=True)
    roster = await deps.reads.assignments.roster(course.id, request.path_params["assignment"])
    if roster is None:
        raise Refused(404, NO_ROSTER)
    students, by = [entry.student for entry in roster.students], principal_of(request)
    made = await deps.sign_in.links.add(course.id, students, days=body.expires_in_days, replace=body.replace, by=by)
    return answered(LinksView(items=[_view(each) for each in made]), headers=_SECRET)


@operation(LinkView, auth=(Auth.OPERATOR,), before=nothing)
async def add_for_operator(request: Request, deps: Deps) -> Response:
    """Make a link with which an operator signs in once, within an hour; this answer alone contains it."""
    return answered(_view(await deps.sign_in.links.add_for_operator(by=principal_of(request))), headers=_SECRET)


def _view(issued: Issued) -> LinkView:
    token = issued.token
    assert token.expires_at is not None  # noqa: S101 - every link expires
    return LinkView(id=token.id, student=token.student or None, token=issued.secret, expires_at=token.expires_at)

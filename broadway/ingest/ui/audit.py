"""`/ui/c/…/audit`: the actions of staff on a course."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.pages import CursorError
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, takes
from broadway.ingest.ui.endpoint import NOTHING_HERE
from broadway.ingest.ui.templating import page

ROWS = 50  # on one page
MAX_WORD = 100  # characters of a filter


@takes(Auth.COURSE)
async def show(request: Request, deps: Deps) -> Response:
    """Show the actions, latest first, with the state before and after each."""
    course, given = course_of(request).id, request.query_params
    name, operation = given.get("name", "")[:MAX_WORD].strip(), given.get("operation", "")[:MAX_WORD].strip()
    try:
        found = await deps.reads.audit.latest(
            course=course, name=name or None, operation=operation or None, after=given.get("after"), limit=ROWS
        )
    except CursorError as error:
        raise Refused(404, NOTHING_HERE) from error
    return page(
        request,
        "audit.html",
        course=course,
        records=found.items,
        next=found.next,
        name=name,
        operation=operation,
    )

"""`/ui/c/…/audit` and `/ui/ops/audit`: the actions of staff on a course, and all actions for operators."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.audit_objects import About
from broadway.domain.pages import CursorError
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, takes
from broadway.ingest.ui.endpoint import NOTHING_HERE
from broadway.ingest.ui.templating import page

ROWS = 50  # on one page
MAX_WORD = 100  # characters of a filter
MAX_ABOUT = 250  # characters


@takes(Auth.COURSE)
async def show(request: Request, deps: Deps) -> Response:
    """Show the actions on a course, latest first, with the state before and after each."""
    return await _shown(request, deps, course_of(request).id)


@takes(Auth.OPERATOR)
async def show_all(request: Request, deps: Deps) -> Response:
    """Show all actions, latest first, with the state before and after each."""
    return await _shown(request, deps, None)


async def _shown(request: Request, deps: Deps, course: str | None) -> Response:
    given = request.query_params
    wanted = {name: given.get(name, "")[:MAX_WORD].strip() for name in ("name", "operation")}
    about = About.of(given.get("about", "")[:MAX_ABOUT])
    try:
        found = await deps.reads.audit.latest(
            course=course,
            name=wanted["name"] or None,
            operation=wanted["operation"] or None,
            paths=about.paths(course or "") if about else (),
            after=given.get("after"),
            limit=ROWS,
        )
    except CursorError as error:
        raise Refused(404, NOTHING_HERE) from error
    filters = {name: text for name, text in {**wanted, "about": about.text if about else ""}.items() if text}
    return page(
        request,
        "audit.html",
        course=course,
        records=found.items,
        next=found.next,
        filters=filters,
        about=about,
        name=wanted["name"],
        operation=wanted["operation"],
    )

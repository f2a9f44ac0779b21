"""`/assignments/…/roster`: the students of an assignment."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.roster import Roster
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Load
from broadway.ingest.v2.openapi import answered, operation


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present roster, or None."""
    roster = await deps.reads.assignments.roster(course_of(request).id, request.path_params["assignment"])
    return roster.model_dump(mode="json") if roster else None


@operation(Roster, body=Roster, operation_id="hooks_put_roster", before=_before)
async def put(request: Request, deps: Deps) -> Response:
    """Replace an assignment's roster: the students with their environments and repositories."""
    course = course_of(request)
    roster = await read(request, Roster, limit=deps.settings.max_body_size)
    await deps.hook_settings.put_roster(course, request.path_params["assignment"], roster)
    return answered(roster)


@operation(Roster, operation_id="hooks_show_roster", load=Load.LARGE)
async def show(request: Request, deps: Deps) -> Response:
    """Get an assignment's roster."""
    course = course_of(request)
    roster = await deps.reads.assignments.roster(course.id, request.path_params["assignment"])
    if roster is None:
        raise Refused(404, "this assignment has no roster")
    return answered(roster)

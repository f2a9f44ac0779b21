"""`/ui/c/…/a/…/links`: a file with a personal link for each student of a roster."""

import csv
import io
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.formulas import defused
from broadway.ingest.commands.tokens import Issued
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.downloads import made
from broadway.ingest.http.rights import Auth, nothing, takes
from broadway.ingest.ui.forms import form_of
from broadway.ingest.ui.security import LINKS, origin_of
from broadway.messages.resources.links import LinksRequest

COLUMNS = ("student", "link", "expires_at")  # as `broadway roster links` writes them
NO_ROSTER = "the roster is empty: store it first, then make the links of its students"


@takes(Auth.COURSE, before=nothing, operation="ui.addLinks")
async def add(request: Request, deps: Deps) -> Response:
    """Make a link for each student of the roster, as CSV; this answer alone contains them."""
    form, course, name = await form_of(request), course_of(request).id, request.path_params["assignment"]
    roster = await deps.reads.assignments.roster(course, name)
    if roster is None or not roster.students:
        raise Refused(404, NO_ROSTER)
    students, days = [entry.student for entry in roster.students], LinksRequest().expires_in_days
    replace, by = form.get("replace") == "yes", principal_of(request)
    issued = await deps.sign_in.links.add(course, students, days=days, replace=replace, by=by)
    data = _csv(issued, f"{origin_of(request)}{LINKS}").encode()
    no_store = {"Cache-Control": "no-store"}
    return made(request, data, name=f"{course}-links.csv", media_type="text/csv; charset=utf-8", more=no_store)


def _csv(issued: Sequence[Issued], address: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for each in issued:
        ends = each.token.expires_at.isoformat() if each.token.expires_at else ""
        writer.writerow((defused(each.token.student), address + each.secret, ends))
    return text.getvalue()

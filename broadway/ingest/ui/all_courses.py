"""`/ui/ops/courses`: all courses, for operators, and making one with its first token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import TokenKind
from broadway.domain.course import Course
from broadway.domain.json_bodies import check
from broadway.ingest.commands.tokens import Issued
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import principal_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, nothing, takes
from broadway.ingest.ui.forms import form_of, number_in
from broadway.ingest.ui.refused_forms import shown_again
from broadway.ingest.ui.templating import not_kept, page
from broadway.messages.resources.courses import CourseRequest
from broadway.messages.resources.tokens import TokenRequest

ROWS = 100  # on one page
_LONGEST = 100  # characters of an id


@dataclass(frozen=True, slots=True)
class CoursesPage:
    """A page of courses, and the id to go on from."""

    courses: Sequence[Course]
    next: str | None
    after: str


@takes(Auth.OPERATOR)
async def show(request: Request, deps: Deps) -> Response:
    """List the courses, with a form for another one."""
    return _shown(request, await _view(request, deps))


async def _view(request: Request, deps: Deps) -> CoursesPage:
    after = request.query_params.get("after", "")[:_LONGEST]
    return CoursesPage(*await deps.courses.page(after or None, ROWS), after)


def _shown(
    request: Request,
    view: CoursesPage,
    *,
    made: Issued | None = None,
    given: Mapping[str, str] | None = None,
    problems: Sequence[str] = (),
    status: int = 200,
) -> Response:
    answer = page(request, "courses.html", status, view=view, made=made, given=given or {}, problems=problems)
    return answer if made is None else not_kept(answer)


@takes(Auth.OPERATOR, before=nothing, operation="ui.addCourse")
async def add(request: Request, deps: Deps) -> Response:
    """Make a course and its first token, whose secret is on this one page only."""
    form, before = await form_of(request), await _view(request, deps)
    async with shown_again(
        request, lambda status, problems: _shown(request, before, given=form, problems=problems, status=status)
    ):
        wanted = check(_fields(form), CourseRequest)
        token = check({"name": form.get("name", "").strip()}, TokenRequest)
        await deps.courses.add(Course(tokens=(), is_added=True, **wanted.model_dump()))
    by = principal_of(request)
    issued = await deps.tokens.add(wanted.id, TokenKind.COURSE, token.name, days=None, by=by)
    return _shown(request, await _view(request, deps), made=issued)


def _fields(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a course that a form means; those that were left empty are missing.

    Raises:
        Refused: 422, a text is not the number that it should be.
    """
    given = {name: form.get(name, "").strip() for name in ("id", "weight", "concurrency", "pool")}
    fields: dict[str, Any] = {name: given[name] for name in ("id", "pool") if given[name]}
    if given["weight"]:
        try:
            fields["weight"] = float(given["weight"].replace(",", "."))
        except ValueError:
            raise Refused(422, "weight: expected a number from 0.01 to 100, such as 1 or 2.5") from None
    if given["concurrency"]:
        fields["concurrency"] = number_in(given["concurrency"])
        if fields["concurrency"] is None:
            raise Refused(422, "concurrency: expected a number of jobs, or nothing for no limit")
    return fields

"""`/ui/c/…/a/…/grades`: the grade book of an assignment: the draft against the published grades, and its versions."""

from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, get_args
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.grade_book import Draft, Published
from broadway.domain.json_bodies import check
from broadway.ingest.commands.grades import PublishOrder, Undo
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, Load, takes
from broadway.ingest.reads.grade_rows import GradeFilter, GradeRows, Sort, grade_rows
from broadway.ingest.reads.grades import Book
from broadway.ingest.ui.beside import actions_on
from broadway.ingest.ui.endpoint import NOTHING_HERE, redirected, visitor
from broadway.ingest.ui.forms import form_of, number_in
from broadway.ingest.ui.templating import page
from broadway.messages.resources.grades import PublishBody, UndoBody
from broadway.runtime.threads import beside

MAX_WORD = 300  # characters of a filter
VERSIONS = 20  # on one page
MAX_FORM = 64 * 1024  # bytes, with two notes
_NOT_SURE = "tick the box beside the button: students see the change at once"


@dataclass(frozen=True, slots=True)
class Place:
    """The assignment whose grades are shown, and the address of its grade book."""

    course: str
    assignment: str

    @property
    def base(self) -> str:
        return f"/ui/c/{self.course}/a/{self.assignment}/grades"

    def of_student(self, student: str) -> str:
        """Return the address of a student's grade."""
        return f"{self.base}/s/{quote(student, safe='')}"


@dataclass(frozen=True, slots=True)
class GradePage:
    """All that the page of a grade book shows: the draft, or the version with a number."""

    place: Place
    found: Draft | Book
    pointer: Published | None
    rows: GradeRows
    wanted: GradeFilter
    number: int | None

    @property
    def published(self) -> int:
        """The number of the published version; 0 before the first one."""
        return self.pointer.version if self.pointer else 0

    def link(self, **changes: Any) -> str:
        """Return the address of the page with a changed filter; it begins at the first page again."""
        wanted = replace(self.wanted, **{"page": 1, **changes})
        given = {
            "version": self.number or "",
            "find": wanted.find,
            "status": wanted.status,
            "changed": "yes" if wanted.changed else "",
            "sort": "" if wanted.sort == "student" else wanted.sort,
            "page": wanted.page if wanted.page > 1 else "",
        }
        return f"?{urlencode({name: value for name, value in given.items() if value})}"

    @property
    def is_filtered(self) -> bool:
        return bool(self.wanted.find or self.wanted.status or self.wanted.changed)


async def place_of(request: Request, deps: Deps) -> Place:
    """Return the assignment in the path.

    Raises:
        Refused: 404, the course has no such assignment.
    """
    place = Place(course_of(request).id, request.path_params["assignment"])
    if await deps.reads.assignments.config(place.course, place.assignment) is None:
        raise Refused(404, NOTHING_HERE)
    return place


def filter_of(request: Request) -> GradeFilter:
    """Return the filter in an address; values that cannot be read are left out."""
    given = {name: value[:MAX_WORD] for name, value in request.query_params.items()}
    sort = given.get("sort", "student")
    return GradeFilter(
        find=given.get("find", "").strip(),
        status=given.get("status", ""),
        changed=given.get("changed") == "yes",
        sort=sort if sort in get_args(Sort) else "student",  # type: ignore[arg-type]
        page=max(1, number_in(given.get("page", "")) or 1),
    )


@takes(Auth.COURSE, load=Load.LARGE)
async def show(request: Request, deps: Deps) -> Response:
    """Show the draft of an assignment's grades beside the published ones, or another version."""
    place, wanted = await place_of(request, deps), filter_of(request)
    reads, number = deps.reads.grades, number_in(request.query_params.get("version", ""))
    pointer = await reads.pointer(place.course, place.assignment)
    published = await reads.published(place.course, place.assignment) if pointer and pointer.is_visible else None
    found: Draft | Book | None
    if number is None:
        found = await reads.draft(place.course, place.assignment)
    else:
        found = await reads.version(place.course, place.assignment, number)
    if found is None:
        raise Refused(404, NOTHING_HERE)
    others = published.entries if published and number is None else None
    rows = await beside(len(found.entries), grade_rows, found.entries, others, wanted)
    view = GradePage(place, found, pointer, rows, wanted, number)
    actions = await actions_on(deps, place.course, "grades", place.assignment)
    return page(request, "grades.html", view=view, place=place, course=place.course, key=token_hex(8), actions=actions)


@takes(Auth.COURSE)
async def list_versions(request: Request, deps: Deps) -> Response:
    """Show the versions that are or were published, latest first."""
    place = await place_of(request, deps)
    before = number_in(request.query_params.get("before", ""))
    found = await deps.reads.grades.versions(place.course, place.assignment, before=before, limit=VERSIONS)
    pointer = await deps.reads.grades.pointer(place.course, place.assignment)
    return page(
        request,
        "grade_versions.html",
        place=place,
        course=place.course,
        key=token_hex(8),
        versions=found.items,
        next=found.next,
        published=pointer.version if pointer else 0,
    )


async def _before(request: Request, deps: Deps) -> Any:
    """Return the published version."""
    pointer = await deps.reads.grades.pointer(course_of(request).id, request.path_params["assignment"])
    return {"published": pointer.version if pointer else 0}


@takes(Auth.COURSE, before=_before, operation="ui.publishGrades")
async def publish(request: Request, deps: Deps) -> Response:
    """Publish the draft as it is now, after the page has asked again."""
    place, form = await place_of(request, deps), await form_of(request, limit=MAX_FORM)
    fields = {"based_on": number_in(form.get("based_on", "")), **_notes(form)}
    body = check(fields, PublishBody)
    _demand_sure(form)
    order = PublishOrder(body.based_on, visitor(request).name, body.reason, body.note, key_in(form))
    await deps.grades.books.publish_draft(place.course, place.assignment, order)
    return redirected(place.base)


@takes(Auth.COURSE, before=_before, operation="ui.undoGrades")
async def undo(request: Request, deps: Deps) -> Response:
    """Publish the grades of an earlier version again, after the page has asked again."""
    place, form = await place_of(request, deps), await form_of(request, limit=MAX_FORM)
    fields = {"based_on": number_in(form.get("based_on", "")), "to": number_in(form.get("to", "")), **_notes(form)}
    body = check(fields, UndoBody)
    _demand_sure(form)
    order = Undo(body.based_on, body.to, visitor(request).name, body.reason, body.note, key_in(form))
    await deps.grades.books.undo(place.course, place.assignment, order)
    return redirected(place.base)


def key_in(form: dict[str, str]) -> str | None:
    """Return the name that the page has given to a form, which makes a repetition harmless."""
    return form.get("key", "")[:64] or None


def _notes(form: dict[str, str]) -> dict[str, str]:
    return {"reason": form.get("reason", ""), "note": form.get("note", "")}


def _demand_sure(form: dict[str, str]) -> None:
    if form.get("sure") != "yes":
        raise Refused(422, _NOT_SURE)

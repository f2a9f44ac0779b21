"""`/ui/c/…/a/…/grades/s/…`: a student's grade with its lines, and the extensions and adjustments behind it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.grade_adjustment import AdjustmentOrder
from broadway.domain.grade_book import BookEntry, StoredAdjustment
from broadway.domain.json_bodies import check
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, Load, nothing, takes
from broadway.ingest.reads.extensions import StoredExtension
from broadway.ingest.reads.grade_rows import GradeRow
from broadway.ingest.reads.grades import BookedEntry
from broadway.ingest.ui.endpoint import NOTHING_HERE, redirected, visitor
from broadway.ingest.ui.forms import form_of
from broadway.ingest.ui.grades import MAX_FORM, key_in, place_of
from broadway.ingest.ui.templating import page

EXTENSIONS = 50  # shown of a student
ALL_EXTENSIONS = 5000
ADJUSTMENTS = 100  # shown of a student


@dataclass(frozen=True, slots=True)
class StudentGrade:
    """All that the page of a student's grade shows."""

    student: str
    row: GradeRow
    booked: BookedEntry | None
    extensions: Sequence[StoredExtension]
    adjustments: Sequence[StoredAdjustment]


@takes(Auth.COURSE, load=Load.LARGE)
async def show(request: Request, deps: Deps) -> Response:
    """Show a student's grade: the draft and the published one with their lines, extensions and adjustments."""
    place, student = await place_of(request, deps), request.path_params["student"]
    course, assignment, reads = place.course, place.assignment, deps.reads.grades
    draft = await reads.draft_of(course, assignment, student)
    booked = await reads.booked_entry(course, assignment, student)
    then = booked.entry if booked else None
    if draft is None and then is None:
        raise Refused(404, NOTHING_HERE)
    adjustments = await reads.adjustments_page(course, assignment, student=student, after=None, limit=ADJUSTMENTS)
    view = StudentGrade(
        student=student,
        row=GradeRow(student, draft, then, is_changed=_points(draft) != _points(then)),
        booked=booked,
        extensions=await _extensions(deps, course, assignment, student),
        adjustments=adjustments.items,
    )
    return page(request, "student_grade.html", view=view, place=place, course=course, key=token_hex(8))


def _points(entry: BookEntry | None) -> object:
    return (entry.grade.status, entry.grade.points) if entry else None


async def _extensions(deps: Deps, course: str, assignment: str, student: str) -> list[StoredExtension]:
    """Return the extensions that are or were meant for a student, latest first."""
    member = await deps.reads.members.one(course, assignment, student, days_left=lambda _: 0)
    found = await deps.reads.extensions.page(course, assignment, in_force=False, after=None, limit=ALL_EXTENSIONS)
    own = [each for each in found.items if member.is_meant_by(each.extension.order)]
    return own[: -EXTENSIONS - 1 : -1]


@takes(Auth.COURSE, before=nothing, operation="ui.adjustGrade")
async def adjust(request: Request, deps: Deps) -> Response:
    """Adjust a student's grade: points to add or take off, a final number, or excused."""
    place, form = await place_of(request, deps), await form_of(request, limit=MAX_FORM)
    given = {name: form.get(name, "").strip() for name in ("kind", "points", "reason")}
    order = check(
        {**given, "points": given["points"] or None, "student": request.path_params["student"]}, AdjustmentOrder
    )
    page_key = key_in(form)
    # A form that was changed after the first time is another one.
    key = hashlib.sha256(f"{page_key}\0{order.model_dump_json()}".encode()).hexdigest() if page_key else None
    await deps.grades.adjusting.adjust(place.course, place.assignment, [order], by=visitor(request).name, key=key)
    return redirected(place.of_student(order.student))


async def _before(request: Request, deps: Deps) -> Any:
    """Return the adjustment in the path."""
    path = request.path_params
    found = await deps.reads.grades.adjustments(course_of(request).id, path["assignment"])
    known = next((each for each in found if each.id == path["adjustment"]), None)
    if known is None:
        return None
    return {"id": known.id, "student": known.student, "kind": known.kind, "points": str(known.points)}


@takes(Auth.COURSE, before=_before, operation="ui.withdrawAdjustment")
async def withdraw(request: Request, deps: Deps) -> Response:
    """Withdraw an adjustment; it stays in the list."""
    place, form = await place_of(request, deps), await form_of(request, limit=MAX_FORM)
    identity, reason = request.path_params["adjustment"], form.get("reason", "").strip()[:1000]
    by = visitor(request).name
    await deps.grades.adjusting.withdraw(place.course, place.assignment, identity, by=by, reason=reason)
    return redirected(place.of_student(request.path_params["student"]))

"""`/grades`: the draft and the versions of an assignment's grade book, for staff; a student's own published grade."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind
from broadway.domain.grade_book import BookEntry, Draft, Version
from broadway.domain.pages import CursorError
from broadway.ingest.commands.grades import PublishOrder, Undo
from broadway.ingest.commands.start import NO_SUCH_ASSIGNMENT
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import idempotency_key, read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.representations import CONDITION, unchanged
from broadway.ingest.http.rights import Auth, Load
from broadway.ingest.reads.grades import Book
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.grades import grade_view, grades_page, version_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.grades import GradesPage, PublishBody, StudentGrade, UndoBody, VersionView

DRAFT, PUBLISHED = "draft", "published"
NOT_PUBLISHED = "no grades of this assignment are published"
NO_VERSION = "this assignment's grade book has no such version"
NO_STUDENT = "these grades have no such student"
_KEY = {"Idempotency-Key": "the client's name for the publication, the same for each repetition of the request"}


class _WhichQuery(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(
        default=DRAFT,
        pattern=r"^(draft|published|[1-9][0-9]{0,8})$",
        description="`draft`: the grades of this moment; `published`: those that students see; or a version's number",
    )


class GradesQuery(PageQuery, _WhichQuery):
    """The query of an assignment's grades."""


class StudentQuery(_WhichQuery):
    """The query of a student's grade; students get the published one."""


async def _before(request: Request, deps: Deps) -> Any:
    """Return the published version."""
    pointer = await deps.reads.grades.pointer(course_of(request).id, request.path_params["assignment"])
    return {"published": pointer.version if pointer else 0}


@operation(GradesPage, query=GradesQuery, load=Load.LARGE)
async def list_grades(request: Request, deps: Deps) -> Response:
    """List the grades of an assignment by student: of the draft, of the published version, or of another version.

    The draft is what the policy gives at this moment. It has all students of the roster, and all who have submitted.
    """
    course, assignment = await _assignment(request, deps)
    query = query_of(request, GradesQuery)
    pointer = await deps.reads.grades.pointer(course, assignment)
    found = await _found(deps, course, assignment, query.version)
    return answered(grades_page(found, pointer, after=query.after, limit=query.limit))


@operation(StudentGrade, auth=(Auth.COURSE, Auth.STUDENT), query=StudentQuery, also={304: None}, headers=CONDITION)
async def show(request: Request, deps: Deps) -> Response:
    """Get the grade of a student, with the lines of its arithmetic. Students see their own published grade only."""
    course, assignment = await _assignment(request, deps)
    student, principal = request.path_params["student"], principal_of(request)
    is_staff = principal.kind is not Kind.STUDENT
    if not is_staff and principal.student != student:
        raise Refused(403, "student: this token reads the grades of its own student only")
    which = query_of(request, StudentQuery).version if is_staff else PUBLISHED
    version, entry = await _entry(deps, course, assignment, student, which)
    if entry is None:
        raise Refused(404, NO_STUDENT if is_staff else NOT_PUBLISHED)
    pointer = await deps.reads.grades.pointer(course, assignment)
    view = StudentGrade(
        published=pointer.version if pointer else 0,
        version=version.number if version else None,
        at=version.at if version else datetime.now(UTC),
        note=version.note if version else "",
        grade=grade_view(entry, is_staff=is_staff),
    )
    return unchanged(request, answered(view)) if version else answered(view)


@operation(Page[VersionView], query=PageQuery)
async def list_versions(request: Request, deps: Deps) -> Response:
    """List the versions that are or were published, latest first: who published what, when and why."""
    course, assignment = await _assignment(request, deps)
    query = query_of(request, PageQuery)
    if query.after is not None and not (query.after.isascii() and query.after.isdecimal()):
        raise CursorError("after: expected the next of the page before")
    before = None if query.after is None else int(query.after)
    page = await deps.reads.grades.versions(course, assignment, before=before, limit=query.limit)
    pointer = await deps.reads.grades.pointer(course, assignment)
    published = pointer.version if pointer else 0
    items = [version_view(each, published=published) for each in page.items]
    return answered(Page[VersionView](items=items, next=page.next))


@operation(VersionView, body=PublishBody, refusals=(409, 422), headers=_KEY, before=_before)
async def publish(request: Request, deps: Deps) -> Response:
    """Publish the draft as it is now: students see it from then on.

    409: another version is published than the one that `based_on` names; look at the grades again.
    """
    course, assignment = await _assignment(request, deps)
    body = await read(request, PublishBody, limit=deps.settings.max_body_size)
    order = PublishOrder(body.based_on, principal_of(request).name, body.reason, body.note, idempotency_key(request))
    version = await deps.grades.books.publish_draft(course, assignment, order)
    return answered(version_view(version, published=version.number))


@operation(VersionView, body=UndoBody, refusals=(409, 422), headers=_KEY, before=_before)
async def undo(request: Request, deps: Deps) -> Response:
    """Publish the grades of an earlier version again, as a new version.

    409: another version is published than the one that `based_on` names.
    """
    course, assignment = await _assignment(request, deps)
    body = await read(request, UndoBody, limit=deps.settings.max_body_size)
    by, key = principal_of(request).name, idempotency_key(request)
    order = Undo(body.based_on, body.to, by, body.reason, body.note, key)
    version = await deps.grades.books.undo(course, assignment, order)
    return answered(version_view(version, published=version.number))


async def _assignment(request: Request, deps: Deps) -> tuple[str, str]:
    """Return the course and the assignment in the path.

    Raises:
        Refused: 404, the course has no such assignment.
    """
    course, assignment = course_of(request).id, request.path_params["assignment"]
    if await deps.reads.assignments.config(course, assignment) is None:
        raise Refused(404, NO_SUCH_ASSIGNMENT)
    return course, assignment


async def _found(deps: Deps, course: str, assignment: str, which: str) -> Draft | Book:
    if which == DRAFT:
        return await deps.reads.grades.draft(course, assignment)
    reads = deps.reads.grades
    book = await (
        reads.published(course, assignment) if which == PUBLISHED else reads.version(course, assignment, int(which))
    )
    if book is None:
        raise Refused(404, NOT_PUBLISHED if which == PUBLISHED else NO_VERSION)
    return book


async def _entry(
    deps: Deps, course: str, assignment: str, student: str, which: str
) -> tuple[Version | None, BookEntry | None]:
    if which == DRAFT:
        return None, await deps.reads.grades.draft_of(course, assignment, student)
    number = None if which == PUBLISHED else int(which)
    found = await deps.reads.grades.booked_entry(course, assignment, student, number)
    if found is None:
        raise Refused(404, NOT_PUBLISHED if number is None else NO_VERSION)
    return found.version, found.entry

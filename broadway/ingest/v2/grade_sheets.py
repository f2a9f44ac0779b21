"""`/grades/export`, `/grades/merge` and `/grades/import`: grades as files, and files of grades read again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from hashlib import sha256

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.sheets.cells import MAX_BYTES
from broadway.domain.sheets.entries import Written
from broadway.domain.sheets.merging import MergeChoice, Merged
from broadway.domain.sheets.options import DecimalSign, ExportChoice, keys_of
from broadway.domain.sheets.writing import unmatched_csv
from broadway.ingest.commands.grade_imports import decisions_of
from broadway.ingest.commands.start import NO_SUCH_ASSIGNMENT
from broadway.ingest.http.answers import CORS, Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import read_file
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.downloads import attachment, hold, made
from broadway.ingest.http.rights import Load, nothing
from broadway.ingest.reads.grade_sheets import Basis, Names, Origin
from broadway.ingest.v2.openapi import answered, operation, query_of
from broadway.ingest.v2.views.grade_sheets import CSV, export_view, import_view, merge_view, sheet_file
from broadway.messages.resources.grade_queries import ExportQuery, ImportQuery, MergeQuery
from broadway.messages.resources.grade_sheets import ExportView, ImportView, MergeView


@operation(
    ExportView, query=ExportQuery, returns=("text/csv", "application/x-ndjson"), refusals=(416, 422), load=Load.LARGE
)
async def export(request: Request, deps: Deps) -> Response:
    """Download the grades of an assignment as a new file.

    The answer is an attachment; its headers say of which version it is and if it is complete. No grade is not zero: the
    cells of students whose grade is open are blank. 404: there is no such version.
    """
    query, (course, assignment) = query_of(request, ExportQuery), await _assignment(request, deps)
    choice = ExportChoice(
        format=query.format,
        title=query.title or assignment,
        missing=query.missing,
        decimal=query.decimal,
        canvas_id=query.canvas_id,
    )
    names = Names(student_is=query.student_is)
    written, origin = await deps.reads.sheets.export(course, assignment, _basis(query.version), names, choice)
    name, media_type = f"{_name(assignment, origin)}.{query.format.suffix}", query.format.media_type
    if query.answer == "json":
        return await _rendered(
            request,
            lambda: export_view(written, origin, sheet_file(name, media_type, written.data)),
            _headers(written, origin),
        )

    async def content(start: int, end: int) -> AsyncIterator[bytes]:
        yield written.data[start:end]

    tag = await asyncio.to_thread(lambda: sha256(written.data).hexdigest())
    more = _headers(written, origin)
    size = len(written.data)
    return attachment(request, name=name, size=size, tag=tag, content=content, media_type=media_type, more=more)


@operation(
    MergeView,
    query=MergeQuery,
    sends="text/csv",
    returns=("text/csv",),
    refusals=(400, 408, 413, 415, 422),
    before=nothing,
)
async def merge(request: Request, deps: Deps) -> Response:
    """Merge grades into a column of the file that a learning management system has exported.

    The body is that file. The answer is an attachment with the same bytes but for the changed cells; nothing is stored.
    422: the file has no such column, or is no sheet; the text says where.
    """
    query, (course, assignment) = query_of(request, MergeQuery), await _assignment(request, deps)
    choice = MergeChoice(
        column=query.column,
        keys=keys_of(query.key),
        by_name=query.by_name,
        missing=query.missing,
        comma=query.decimal is DecimalSign.COMMA,
        encoding=query.encoding,
    )
    names = Names([key.identifier for key in choice.keys], query.student_is)
    data = await read_file(request, limit=MAX_BYTES)
    merged, origin = await deps.reads.sheets.merge(course, assignment, _basis(query.version), names, data, choice)
    name, more = _name(assignment, origin), _headers(merged, origin)
    media_type, unmatched = f"text/csv; charset={merged.charset}; header=present", f"{name}-unmatched.csv"
    if query.answer == "unmatched":
        return made(request, unmatched_csv(merged), name=unmatched, media_type=CSV, more=more)
    if query.answer == "file":
        return made(request, merged.data, name=f"{name}-merged.csv", media_type=media_type, more=more)
    return await _rendered(
        request,
        lambda: merge_view(merged, origin, sheet_file(f"{name}-merged.csv", media_type, merged.data), unmatched),
        more,
    )


@operation(
    ImportView,
    operation_id="grade_sheets_import",
    query=ImportQuery,
    sends="text/csv",
    refusals=(400, 408, 409, 413, 415, 422),
    before=nothing,
)
async def import_(request: Request, deps: Deps) -> Response:
    """Show the changes in a plain sheet of grades, or make them, as decisions of staff on single grades.

    The body is the file of an export as CSV, after changes in a spreadsheet. It is compared with the version that it
    names. 409: a grade has changed since then, or a change has no reason; nothing is changed. A repetition finds the
    changes made.
    """
    query, (course, assignment) = query_of(request, ImportQuery), await _assignment(request, deps)
    data = await read_file(request, limit=MAX_BYTES)
    basis = _basis(query.version) if query.version else None  # then the file names its version
    found = await deps.reads.sheets.preview(course, assignment, basis, data, encoding=query.encoding)
    if query.apply:
        decisions = decisions_of(found.plan, reason=query.reason)
        if decisions:
            await deps.grades.adjusting.adjust(course, assignment, decisions, by=principal_of(request).name)
    return answered(import_view(found, is_applied=query.apply))


async def _assignment(request: Request, deps: Deps) -> tuple[str, str]:
    """Return the course and the assignment of a request.

    Raises:
        Refused: 404, the course has no such assignment.
    """
    course, assignment = course_of(request).id, request.path_params["assignment"]
    if await deps.reads.assignments.config(course, assignment) is None:
        raise Refused(404, NO_SUCH_ASSIGNMENT)
    return course, assignment


def _basis(version: str) -> Basis:
    return Basis(is_draft=version == "draft", number=int(version) if version.isdecimal() else None)


def _name(assignment: str, origin: Origin) -> str:
    return f"{assignment}-{'draft' if origin.version is None else f'v{origin.version}'}"


def _headers(found: Written | Merged, origin: Origin) -> dict[str, str]:
    return {
        "Broadway-Version": "draft" if origin.version is None else str(origin.version),
        "Broadway-Complete": str(found.is_complete()).lower(),
    }


async def _rendered(request: Request, view: Callable[[], BaseModel], more: Mapping[str, str]) -> Response:
    """Answer with a resource that has files in it; it is made in a thread, since it may be large."""
    body = await asyncio.to_thread(lambda: view().model_dump_json().encode())
    hold(request, len(body))
    return Response(body, headers={**CORS, **more}, media_type="application/json")

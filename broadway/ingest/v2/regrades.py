"""`/regrades`: grade submissions again beside the grades, compare, and publish or discard the result."""

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.pages import CursorError
from broadway.domain.regrade import Regrade, RegradeOrder
from broadway.domain.regrade_diff import Diff
from broadway.domain.regrade_terms import Category, Publish, RegradeState, Select
from broadway.ingest.commands.regrade import RegradePublication
from broadway.ingest.commands.start import NO_SUCH_ASSIGNMENT
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import Nothing, idempotency_key, read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.representations import CONDITION, unchanged
from broadway.ingest.http.rights import Load, nothing
from broadway.ingest.http.scope import own_regrade
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.regrades import regrade_row, regrade_summary, regrade_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.regrades import (
    RegradePublish,
    RegradeRow,
    RegradeStart,
    RegradeSummary,
    RegradeView,
)

NOT_READY = "the jobs of the regrade have not ended"
_KEYS = {"Idempotency-Key": "the client's name for this order: repeated requests with it are one"}
_COMPARED = (RegradeState.READY, RegradeState.STALE, RegradeState.PUBLISHED)


class RowsQuery(PageQuery):
    """The query of a list of rows."""

    category: Category | None = Field(default=None, description="return only rows of this category")


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present state of the regrade."""
    return regrade_summary(await own_regrade(request, deps)).model_dump(mode="json")


@operation(
    RegradeView,
    status=201,
    also={200: RegradeView},
    body=RegradeStart,
    refusals=(409, 422),
    headers=_KEYS,
    before=nothing,
)
async def create(request: Request, deps: Deps) -> Response:
    """Start a regrade: grade submissions again with the assignment's present config.

    Students see nothing of it, and their quotas and attempts stay as they are. Its jobs wait for all others of the
    course. Pre- and post-processing are left out. 200: it was started by an earlier request with the same key.
    """
    course, assignment = course_of(request), request.path_params["assignment"]
    body = await read(request, RegradeStart, limit=deps.settings.max_body_size)
    if await deps.reads.assignments.config(course.id, assignment) is None:
        raise Refused(404, NO_SUCH_ASSIGNMENT)
    order = RegradeOrder(Select(body.select), tuple(body.submissions), body.control_percent, body.reason)
    by, key = principal_of(request).name, idempotency_key(request)
    regrade, is_new = await deps.grades.regrades.start(course, assignment, order, by=by, key=key)
    location = f"/api/v2/courses/{course.id}/regrades/{regrade.id}"
    return answered(await _view(regrade, deps), 201 if is_new else 200, {"Location": location})


@operation(Page[RegradeSummary], query=PageQuery)
async def list_regrades(request: Request, deps: Deps) -> Response:
    """List the regrades of an assignment, latest first."""
    query, assignment = query_of(request, PageQuery), request.path_params["assignment"]
    page = await deps.reads.regrades.latest(course_of(request).id, assignment, after=query.after, limit=query.limit)
    return answered(Page[RegradeSummary](items=[regrade_summary(each) for each in page.items], next=page.next))


@operation(RegradeView, also={304: None}, headers=CONDITION, load=Load.LARGE)
async def show(request: Request, deps: Deps) -> Response:
    """Get a regrade with its progress and, once its jobs have ended, the number of students of each category."""
    view = await _view(await own_regrade(request, deps), deps)
    return unchanged(request, answered(view))


@operation(Page[RegradeRow], query=RowsQuery, refusals=(409,), load=Load.LARGE)
async def list_rows(request: Request, deps: Deps) -> Response:
    """List the students of a regrade with the old and the new grade, the worst category first."""
    query, regrade = query_of(request, RowsQuery), await own_regrade(request, deps)
    if regrade.state not in _COMPARED:
        raise Refused(409, NOT_READY)
    reads = deps.reads.regrades
    # The first page is that of this moment, and the pages after it are of the same reading.
    diff = await (reads.recent_diff(regrade) if query.after else reads.diff(regrade))
    rows = [row for row in diff.rows if query.category in (None, row.category)]
    start = _start(query.after)
    items = [regrade_row(regrade.course, row) for row in rows[start : start + query.limit]]
    end = start + len(items)
    return answered(Page[RegradeRow](items=items, next=str(end) if end < len(rows) else None))


@operation(RegradeView, body=Nothing, is_body_optional=True, refusals=(409,), before=_before)
async def refresh(request: Request, deps: Deps) -> Response:
    """Grade those students again whose submissions have changed, or with whose the infrastructure failed.

    The others are compared with the version that is published now.
    """
    regrade = await own_regrade(request, deps)
    await read(request, Nothing, limit=deps.settings.max_body_size, optional=True)
    return answered(await _view(await deps.grades.regrades.refresh(regrade), deps))


@operation(RegradeView, body=RegradePublish, refusals=(409, 422), headers=_KEYS, before=_before)
async def publish(request: Request, deps: Deps) -> Response:
    """Publish the grades of a regrade as a new version of the grade book.

    409: it is not ready, it is stale, the infrastructure failed with some submissions, or another version was published
    meanwhile. A regrade that was published and taken back may be published again.
    """
    regrade = await own_regrade(request, deps)
    body = await read(request, RegradePublish, limit=deps.settings.max_body_size)
    order = RegradePublication(
        publish=Publish(body.publish),
        note=body.note,
        students=frozenset(body.students),
        keep_old=body.keep_old,
        by=principal_of(request).name,
        key=idempotency_key(request),
    )
    published, _ = await deps.grades.regrades.publish(regrade, order)
    return answered(await _view(published, deps))


@operation(RegradeView, body=Nothing, is_body_optional=True, refusals=(409,), before=_before)
async def discard(request: Request, deps: Deps) -> Response:
    """Discard a regrade: cancel its jobs, and remove its reports and logs. The grade book stays as it is."""
    regrade = await own_regrade(request, deps)
    await read(request, Nothing, limit=deps.settings.max_body_size, optional=True)
    return answered(await _view(await deps.grades.regrades.discard(regrade, by=principal_of(request).name), deps))


async def _diff(regrade: Regrade, deps: Deps) -> Diff | None:
    """Return the difference that a regrade makes; None before its jobs have ended, and after it was discarded."""
    return await deps.reads.regrades.diff(regrade) if regrade.state in _COMPARED else None


async def _view(regrade: Regrade, deps: Deps) -> RegradeView:
    return regrade_view(regrade, await deps.reads.regrades.progress(regrade), await _diff(regrade, deps))


def _start(after: str | None) -> int:
    """Return the place of a page's first row.

    Raises:
        CursorError: The text is not the `next` of a page.
    """
    if after is None:
        return 0
    if not after.isdecimal() or len(after) > len("1000000"):
        raise CursorError("after: expected the next of the page before")
    return int(after)

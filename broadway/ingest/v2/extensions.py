"""`/assignments/…/extensions`: later times for a student, a group, or all students with a label."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.bounds import Reason
from broadway.domain.extension import ExtensionOrder, Name, Target
from broadway.domain.json_bodies import InvalidBodyError
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import nothing
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.extensions import extension_view, preview_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.extensions import ExtensionPreview, ExtensionView

NO_TIMES = "due: expected a later time, or closes, add_days or add_minutes; DELETE withdraws an extension"


class ExtensionsQuery(PageQuery):
    """The query of a list of extensions."""

    in_force: bool = Field(default=False, description="leave out those that are withdrawn or replaced")


class WithdrawalQuery(BaseModel):
    """The query of a withdrawal: the target of the extension, and the reason, which is for staff."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Target
    name: Name
    reason: Reason = ""


@operation(Page[ExtensionView], query=ExtensionsQuery)
async def list_extensions(request: Request, deps: Deps) -> Response:
    """List the extensions of an assignment, in the order in which they were added."""
    query, (course, assignment) = query_of(request, ExtensionsQuery), await _place(request, deps)
    page = await deps.reads.extensions.page(
        course, assignment, in_force=query.in_force, after=query.after, limit=query.limit
    )
    items = [extension_view(each.extension, is_in_force=each.is_in_force) for each in page.items]
    return answered(Page[ExtensionView](items=items, next=page.next))


@operation(
    ExtensionView,
    status=201,
    also={200: ExtensionView},
    body=ExtensionOrder,
    refusals=(409, 422),
    before=nothing,
)
async def add(request: Request, deps: Deps) -> Response:
    """Add an extension; from then on it replaces an earlier one of its target.

    200: the target has an equal extension already. 422: the roster has no such student, group or label. The answer has
    a `warning` if the extension has no effect, such as with a time before the assignment's.
    """
    course, assignment = course_of(request).id, request.path_params["assignment"]
    order = await read(request, ExtensionOrder, limit=deps.settings.max_body_size)
    _demand_times(order)
    added = await deps.grades.extensions.add(course, assignment, order, by=principal_of(request).name)
    view = extension_view(added.extension, is_in_force=True, warning=added.warning)
    return answered(view, 201 if added.is_new else 200)


@operation(ExtensionPreview, query=ExtensionOrder, refusals=(422,))
async def preview(request: Request, deps: Deps) -> Response:
    """Preview an extension: the times of its students before and after it. Nothing is stored.

    422: the roster has no such student, group or label.
    """
    order, (course, assignment) = query_of(request, ExtensionOrder), await _place(request, deps)
    _demand_times(order)
    await deps.grades.extensions.check(course, assignment, order)
    return answered(preview_view(await deps.reads.extensions.preview(course, assignment, order)))


async def _before_withdrawal(request: Request, deps: Deps) -> Any:
    """Return the present extension of the target."""
    query = query_of(request, WithdrawalQuery)
    order = ExtensionOrder(target=query.target, name=query.name)
    found = await deps.reads.extensions.present(course_of(request).id, request.path_params["assignment"], order)
    return extension_view(found, is_in_force=True).model_dump(mode="json") if found else None


@operation(ExtensionView, query=WithdrawalQuery, refusals=(409,), before=_before_withdrawal)
async def withdraw(request: Request, deps: Deps) -> Response:
    """Withdraw the extension of a target: the assignment's own times hold again for it."""
    query = query_of(request, WithdrawalQuery)
    course, assignment, by = course_of(request).id, request.path_params["assignment"], principal_of(request).name
    found = await deps.grades.extensions.withdraw(
        course, assignment, query.target, query.name, reason=query.reason, by=by
    )
    return answered(extension_view(found, is_in_force=False))


def _demand_times(order: ExtensionOrder) -> None:
    if order.is_empty:
        raise InvalidBodyError(NO_TIMES)


async def _place(request: Request, deps: Deps) -> tuple[str, str]:
    """Return the course and the assignment in the path.

    Raises:
        Refused: 404.
    """
    course, assignment = course_of(request).id, request.path_params["assignment"]
    if await deps.reads.assignments.config(course, assignment) is None:
        raise Refused(404, "this course has no such assignment")
    return course, assignment

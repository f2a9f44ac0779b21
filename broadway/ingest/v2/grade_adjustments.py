"""`/adjustments`: changes of staff to the grades of an assignment."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.grade_adjustment import AdjustmentOrder
from broadway.domain.roster import Student
from broadway.ingest.commands.grade_adjustments import MAX_AT_ONCE
from broadway.ingest.commands.start import NO_SUCH_ASSIGNMENT
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import idempotency_key, read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import nothing
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.grades import adjustment_view
from broadway.messages.resources.base import Body, Page
from broadway.messages.resources.grades import AdjustmentsView, AdjustmentView, Note


class AdjustBody(Body):
    """Adjustments, in the order of the lines that they get."""

    # Points are exact: as text they keep all their digits.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    items: Annotated[list[AdjustmentOrder], Field(min_length=1, max_length=MAX_AT_ONCE)]


class AdjustmentsQuery(PageQuery):
    """The query of a list of adjustments."""

    student: Student | None = Field(default=None, description="return only this student's adjustments")


class WithdrawQuery(BaseModel):
    """The query of a withdrawal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Note = Field(default="", description="for staff")


@operation(Page[AdjustmentView], query=AdjustmentsQuery)
async def list_adjustments(request: Request, deps: Deps) -> Response:
    """List the adjustments of an assignment, latest first, withdrawn ones too."""
    query = query_of(request, AdjustmentsQuery)
    found = await deps.reads.grades.adjustments_page(
        course_of(request).id,
        request.path_params["assignment"],
        student=query.student,
        after=query.after,
        limit=query.limit,
    )
    return answered(Page[AdjustmentView](items=[adjustment_view(each) for each in found.items], next=found.next))


@operation(
    AdjustmentsView,
    status=201,
    body=AdjustBody,
    refusals=(400, 422),
    headers={"Idempotency-Key": "the client's name for the request: repetitions adjust nothing again"},
    before=nothing,
)
async def adjust(request: Request, deps: Deps) -> Response:
    """Adjust the grades of students: points to add or take off, a final number, or excused.

    The draft has them at once. Students see them, with the reason, after the next publication.
    """
    course, assignment = course_of(request).id, request.path_params["assignment"]
    if await deps.reads.assignments.config(course, assignment) is None:
        raise Refused(404, NO_SUCH_ASSIGNMENT)
    body = await read(request, AdjustBody, limit=deps.settings.max_body_size)
    by, key = principal_of(request).name, idempotency_key(request)
    made = await deps.grades.adjusting.adjust(course, assignment, body.items, by=by, key=key)
    return answered(AdjustmentsView(items=[adjustment_view(each) for each in made]), 201)


async def _before(request: Request, deps: Deps) -> Any:
    """Return the adjustment in the path."""
    path = request.path_params
    found = await deps.reads.grades.adjustments(course_of(request).id, path["assignment"])
    known = next((each for each in found if each.id == path["adjustment"]), None)
    return adjustment_view(known).model_dump(mode="json") if known else None


@operation(AdjustmentView, query=WithdrawQuery, before=_before)
async def withdraw(request: Request, deps: Deps) -> Response:
    """Withdraw an adjustment. It stays in the list, with the name of the token that withdrew it."""
    reason = query_of(request, WithdrawQuery).reason
    course, path, by = course_of(request).id, request.path_params, principal_of(request).name
    withdrawn = await deps.grades.adjusting.withdraw(
        course, path["assignment"], path["adjustment"], by=by, reason=reason
    )
    return answered(adjustment_view(withdrawn))

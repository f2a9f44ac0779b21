"""`/audit`: the records of unsafe actions."""

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.names import COURSE_ID
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.tokens import audit_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.tokens import AuditView


class CourseAuditQuery(PageQuery):
    """The query of a course's audit log."""

    name: str | None = Field(default=None, max_length=100, description="return only actions of this name")
    operation: str | None = Field(default=None, max_length=100, description="return only actions of this operation")


class AuditQuery(CourseAuditQuery):
    """The query of the whole audit log."""

    course: str | None = Field(
        default=None, pattern=COURSE_ID, max_length=100, description="return only actions on this course"
    )


@operation(Page[AuditView], query=AuditQuery, auth=Auth.OPERATOR)
async def list_all(request: Request, deps: Deps) -> Response:
    """List the records of the audit log, latest first."""
    query = query_of(request, AuditQuery)
    return await _page(deps, query, query.course)


@operation(Page[AuditView], query=CourseAuditQuery)
async def list_of_course(request: Request, deps: Deps) -> Response:
    """List the records of actions on a course, latest first."""
    return await _page(deps, query_of(request, CourseAuditQuery), course_of(request).id)


async def _page(deps: Deps, query: CourseAuditQuery, course: str | None) -> Response:
    page = await deps.reads.audit.latest(
        course=course, name=query.name, operation=query.operation, after=query.after, limit=query.limit
    )
    return answered(Page[AuditView](items=[audit_view(record) for record in page.items], next=page.next))

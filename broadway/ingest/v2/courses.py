"""`/courses`: the courses that a token belongs to."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.auth import course_of, courses_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views.courses import course_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.courses import CourseView


@operation(Page[CourseView])
async def list_courses(request: Request, _: Deps) -> Response:
    """List the courses that the token belongs to, by name."""
    items = [course_view(course) for course in courses_of(request)]
    return answered(Page[CourseView](items=items, next=None))


@operation(CourseView)
async def show(request: Request, _: Deps) -> Response:
    """Get a course: its share of the cluster, its limit, and the pool of its graders."""
    return answered(course_view(course_of(request)))

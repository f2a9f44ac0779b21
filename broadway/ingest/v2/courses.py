"""`/courses`: the courses that a token belongs to."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import authorize, bearer_token
from broadway.ingest.http.deps import Deps
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views.courses import course_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.courses import CourseView


@operation(Page[CourseView])
async def list_courses(request: Request, deps: Deps) -> Response:
    """List the courses that the token belongs to, by name."""
    token = bearer_token(request)
    admitted = [course for course in await deps.courses.all() if course.admits(token)]
    if not admitted:
        raise Refused(401, "invalid token")
    items = [course_view(course) for course in sorted(admitted, key=lambda course: course.id)]
    return answered(Page[CourseView](items=items, next=None))


@operation(CourseView)
async def show(request: Request, deps: Deps) -> Response:
    """Get a course: its share of the cluster, its limit, and the pool of its graders."""
    return answered(course_view(await authorize(request, deps.courses)))

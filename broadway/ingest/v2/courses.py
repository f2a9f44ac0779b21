"""`/courses`: the courses that a token belongs to, and for operators all courses."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind
from broadway.domain.course import Course
from broadway.ingest.http.auth import course_of, courses_of, principal_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, nothing
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.courses import course_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.courses import CourseRequest, CourseView

MAX_BODY = 64 * 1024  # bytes


@operation(Page[CourseView], query=PageQuery, auth=(Auth.COURSE, Auth.OPERATOR))
async def list_courses(request: Request, deps: Deps) -> Response:
    """List the courses that the token belongs to, by name; all courses for operators, in pages."""
    query = query_of(request, PageQuery)
    if principal_of(request).kind is not Kind.OPERATOR:
        items = [course_view(course) for course in courses_of(request)]
        return answered(Page[CourseView](items=items, next=None))
    found, after = await deps.courses.page(query.after, query.limit)
    return answered(Page[CourseView](items=[course_view(course) for course in found], next=after))


@operation(CourseView, status=201, body=CourseRequest, auth=Auth.OPERATOR, refusals=(409,), before=nothing)
async def add(request: Request, deps: Deps) -> Response:
    """Add a course. A course config leaves it alone, unless the config names it."""
    body = await read(request, CourseRequest, limit=MAX_BODY)
    course = Course(tokens=(), is_added=True, **body.model_dump())
    await deps.courses.add(course)
    return answered(course_view(course), 201, {"Location": f"/api/v2/courses/{course.id}"})


@operation(CourseView)
async def show(request: Request, _: Deps) -> Response:
    """Get a course: its share of the cluster, its limit, and the pool of its graders."""
    return answered(course_view(course_of(request)))

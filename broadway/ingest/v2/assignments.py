"""`/assignments`: the pipelines of assignments."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.assignment import AssignmentConfig
from broadway.domain.course import Course
from broadway.ingest.commands.start import NO_SUCH_ASSIGNMENT
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.messages.resources.base import Page
from broadway.messages.resources.courses import AssignmentName, AssignmentView


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present config."""
    return await deps.reads.assignments.config(course_of(request).id, request.path_params["assignment"])


@operation(AssignmentView, body=AssignmentConfig, before=_before)
async def put(request: Request, deps: Deps) -> Response:
    """Register an assignment's pipelines, or replace all of them; runs that have started keep theirs."""
    course = course_of(request)
    assignment = request.path_params["assignment"]
    config = await read(request, AssignmentConfig, limit=deps.settings.max_body_size)
    await deps.registration.register(course, assignment, config)
    return answered(await _view(course, assignment, deps))


@operation(AssignmentView)
async def describe(request: Request, deps: Deps) -> Response:
    """Get an assignment: its config as posted, the size of its roster, and its hooks."""
    course = course_of(request)
    return answered(await _view(course, request.path_params["assignment"], deps))


@operation(Page[AssignmentName], query=PageQuery)
async def list_assignments(request: Request, deps: Deps) -> Response:
    """List a course's assignments, by name."""
    course = course_of(request)
    query = query_of(request, PageQuery)
    page = await deps.reads.assignments.names(course.id, after=query.after, limit=query.limit)
    return answered(Page[AssignmentName](items=[AssignmentName(id=name) for name in page.items], next=page.next))


async def _view(course: Course, assignment: str, deps: Deps) -> AssignmentView:
    found = await deps.reads.assignments.detail(course.id, assignment)
    if found is None:
        raise Refused(404, NO_SUCH_ASSIGNMENT)
    students = len(found.roster.students) if found.roster else None
    return AssignmentView(id=found.name, config=found.config, students=students, hooks=found.hooks)

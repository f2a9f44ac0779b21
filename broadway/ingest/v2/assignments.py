"""`/grading_config` and `/assignments`: registering and reading an assignment's pipelines."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.assignment import AssignmentConfig
from broadway.domain.course import Course
from broadway.ingest.commands.limits import check_limits
from broadway.ingest.http.answers import Refused, success
from broadway.ingest.http.auth import authorize
from broadway.ingest.http.bodies import read
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views import AssignmentName, AssignmentView, Page

if TYPE_CHECKING:
    from broadway.ingest.app import Deps


async def register(request: Request, deps: "Deps") -> Response:
    """Store a config; it replaces an older one whole, and runs that have started keep theirs."""
    await _store(await authorize(request, deps.store.courses), request, deps)
    return success()


@operation(AssignmentView, body=AssignmentConfig)
async def put(request: Request, deps: "Deps") -> Response:
    """Register an assignment's pipelines, replacing older ones whole. Runs that have started keep theirs."""
    course = await authorize(request, deps.store.courses)
    await _store(course, request, deps)
    return answered(await _view(course, request.path_params["assignment"], deps))


@operation(AssignmentView)
async def describe(request: Request, deps: "Deps") -> Response:
    """An assignment: its config as it was posted, the size of its roster, and its hooks."""
    course = await authorize(request, deps.store.courses)
    return answered(await _view(course, request.path_params["assignment"], deps))


@operation(Page[AssignmentName], query=PageQuery)
async def list_assignments(request: Request, deps: "Deps") -> Response:
    """A course's assignments, by name."""
    course = await authorize(request, deps.store.courses)
    wanted = query_of(request, PageQuery)
    names = [name for name in await deps.store.assignments.names(course.id) if name > (wanted.after or "")]
    page = names[: wanted.limit]
    more = page[-1] if len(names) > len(page) else None
    return answered(Page[AssignmentName](items=[AssignmentName(id=name) for name in page], next=more))


async def _store(course: Course, request: Request, deps: "Deps") -> None:
    config = await read(request, AssignmentConfig, limit=deps.settings.max_body_size)
    check_limits(config, deps.limits, course=course.id)
    await deps.store.assignments.put(course.id, request.path_params["assignment"], config.as_posted())


async def _view(course: Course, assignment: str, deps: "Deps") -> AssignmentView:
    config = await deps.store.assignments.get(course.id, assignment)
    if config is None:
        raise Refused(404, "this course has no such assignment")
    roster = await deps.store.rosters.get(course.id, assignment)
    hooks = [hook.name for hook in await deps.store.hooks.of_course(course.id) if hook.config.assignment == assignment]
    return AssignmentView(id=assignment, config=config, students=len(roster.students) if roster else None, hooks=hooks)


async def show(request: Request, deps: "Deps") -> Response:
    """The config as it was posted."""
    course = await authorize(request, deps.store.courses)
    config = await deps.store.assignments.get(course.id, request.path_params["assignment"])
    if config is None:
        raise Refused(400, "assignment configuration not found")
    return success(config)

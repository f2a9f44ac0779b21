"""`/grading_config`: register and read an assignment's pipelines."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.assignment import AssignmentConfig
from broadway.ingest.http.answers import Refused, success
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import STAFF, takes


async def _config(request: Request, deps: Deps) -> Any:
    return await deps.reads.assignments.config(course_of(request).id, request.path_params["assignment"])


@takes(*STAFF, before=_config, operation="registerAssignment")
async def register(request: Request, deps: Deps) -> Response:
    """Store a config; it replaces an earlier one completely, and runs that have started keep theirs."""
    course = course_of(request)
    config = await read(request, AssignmentConfig, limit=deps.settings.max_body_size)
    await deps.registration.register(course, request.path_params["assignment"], config, may_set_reserved=True)
    return success()


@takes(*STAFF)
async def show(request: Request, deps: Deps) -> Response:
    """Return the config as it was posted."""
    course = course_of(request)
    config = await deps.reads.assignments.config(course.id, request.path_params["assignment"])
    if config is None:
        raise Refused(400, "assignment configuration not found")
    return success(config)

"""`/grading_config`: registering and reading an assignment's pipelines."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from broadway.assignment import AssignmentConfig
from broadway.ingest.auth import authorize
from broadway.ingest.payload import read
from broadway.ingest.responses import Refused, success
from broadway.ingest.submit import Limits, check_limits

if TYPE_CHECKING:
    from broadway.ingest.app import Deps


async def register(request: Request, deps: "Deps") -> Response:
    """Store a config; it replaces an older one whole, and runs that have started keep theirs."""
    course = await authorize(request, deps.store.courses)
    config = await read(request, AssignmentConfig, limit=deps.settings.max_body_size)
    settings = deps.settings
    limits = Limits(
        max_job_seconds=settings.max_job_seconds,
        allow_privileged=settings.allow_privileged,
        images=[pattern.strip() for pattern in settings.allow_images.split(",")],
        max_memory=settings.max_memory,
    )
    check_limits(config, limits)
    await deps.store.assignments.put(course.id, request.path_params["assignment"], config.as_posted())
    return success()


async def show(request: Request, deps: "Deps") -> Response:
    """The config as it was posted."""
    course = await authorize(request, deps.store.courses)
    config = await deps.store.assignments.get(course.id, request.path_params["assignment"])
    if config is None:
        raise Refused(400, "assignment configuration not found")
    return success(config)

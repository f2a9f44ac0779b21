"""`/retention`: how long old things are kept, of a course and of the deployment."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.retention import CourseRules
from broadway.ingest.commands.retention import DEPLOYMENT
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, nothing
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views.retention import pass_view, retention_view
from broadway.messages.resources.retention import PassRequest, PassView, RetentionRequest, RetentionView

MANAGERS = (Auth.COURSE, Auth.OPERATOR)
MAX_BODY = 16 * 1024  # bytes


async def _before(request: Request, deps: Deps) -> Any:
    """Return the course's own rules as they are."""
    return (await deps.retention.state(course_of(request).id)).rules.model_dump()


@operation(RetentionView, auth=MANAGERS)
async def show(request: Request, deps: Deps) -> Response:
    """Get a course's retention: its own rules, the rules in force, and the passes that are ordered and that ended."""
    state = await deps.retention.state(course_of(request).id)
    return answered(retention_view(state, deps.retention.in_force(state)))


@operation(RetentionView, body=RetentionRequest, auth=MANAGERS, before=_before)
async def put(request: Request, deps: Deps) -> Response:
    """Replace a course's own rules. The next pass applies them."""
    body = await read(request, RetentionRequest, limit=MAX_BODY)
    state = await deps.retention.put_rules(course_of(request).id, CourseRules(**body.model_dump()))
    return answered(retention_view(state, deps.retention.in_force(state)))


@operation(PassView, status=202, body=PassRequest, auth=MANAGERS, refusals=(409,), before=nothing)
async def order(request: Request, deps: Deps) -> Response:
    """Apply a course's rules now, or count in a dry run. It is made in the background: get the retention to see."""
    return await _order(request, deps, course_of(request).id)


@operation(RetentionView, auth=Auth.OPERATOR)
async def show_deployment(_: Request, deps: Deps) -> Response:
    """Get the retention of things without a course: dead letters, graders and join tokens."""
    state = await deps.retention.state(DEPLOYMENT)
    return answered(retention_view(state, deps.retention.in_force(state)))


@operation(PassView, status=202, body=PassRequest, auth=Auth.OPERATOR, refusals=(409,), before=nothing)
async def order_deployment(request: Request, deps: Deps) -> Response:
    """Apply the rules for things without a course now, or count in a dry run."""
    return await _order(request, deps, DEPLOYMENT)


async def _order(request: Request, deps: Deps, scope: str) -> Response:
    body = await read(request, PassRequest, limit=MAX_BODY)
    ordered = await deps.retention.order(scope, by=principal_of(request).name, is_dry=body.dry_run)
    return answered(pass_view(ordered), 202)

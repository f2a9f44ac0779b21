"""`/callbacks`: endpoints of a course, which get its events."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.callback_delivery import Endpoint
from broadway.ingest.commands.callbacks import Wishes
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.bodies import Nothing, read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import nothing
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views.callbacks import callback_view, new_callback_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.callbacks import (
    CallbackSettings,
    CallbackView,
    NewCallback,
    NewCallbackView,
    PingView,
    ReplayRequest,
    ReplayView,
    RotationRequest,
)

MAX_BODY = 64 * 1024
NO_STORE = {"Cache-Control": "no-store"}


async def own_callback(request: Request, deps: Deps) -> Endpoint:
    """Return the endpoint in the path.

    Raises:
        Refused: 404.
    """
    endpoint = await deps.reads.callbacks.one(course_of(request).id, request.path_params["callback"])
    if endpoint is None:
        raise Refused(404, "this course has no such callback")
    return endpoint


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present endpoint."""
    return callback_view(await own_callback(request, deps)).model_dump(mode="json")


@operation(Page[CallbackView])
async def list_callbacks(request: Request, deps: Deps) -> Response:
    """List a course's endpoints for callbacks, by name; they are few, and on one page."""
    found = await deps.reads.callbacks.of_course(course_of(request).id)
    return answered(Page[CallbackView](items=[callback_view(each) for each in found], next=None))


@operation(NewCallbackView, status=201, body=NewCallback, refusals=(409,), before=nothing)
async def add(request: Request, deps: Deps) -> Response:
    """Add an endpoint for callbacks; this answer alone contains its secret.

    A repetition is refused with 409, since the name is taken.
    """
    course, body = course_of(request), await read(request, NewCallback, limit=MAX_BODY)
    endpoint = await deps.callbacks.add(course.id, body.name, _wishes(body))
    location = f"/api/v2/courses/{course.id}/callbacks/{endpoint.name}"
    return answered(new_callback_view(endpoint), 201, {"Location": location, **NO_STORE})


@operation(CallbackView)
async def show(request: Request, deps: Deps) -> Response:
    """Get an endpoint, without its secret."""
    return answered(callback_view(await own_callback(request, deps)))


@operation(CallbackView, body=CallbackSettings, refusals=(409,), before=_before)
async def put(request: Request, deps: Deps) -> Response:
    """Replace an endpoint's settings; it keeps its secret. Enabling it also forgets its earlier failures."""
    endpoint = await own_callback(request, deps)
    body = await read(request, CallbackSettings, limit=MAX_BODY)
    return answered(callback_view(await deps.callbacks.change(endpoint, _wishes(body))))


@operation(None, status=204, before=_before)
async def delete(request: Request, deps: Deps) -> Response:
    """Remove an endpoint with its deliveries."""
    await deps.callbacks.remove(await own_callback(request, deps))
    return Response(status_code=204)


@operation(NewCallbackView, body=RotationRequest, is_body_optional=True, refusals=(409,), before=_before)
async def rotate(request: Request, deps: Deps) -> Response:
    """Replace an endpoint's secret; this answer alone contains the new one.

    For some hours each callback has two signatures, one with each secret.
    """
    endpoint = await own_callback(request, deps)
    body = await read(request, RotationRequest, limit=MAX_BODY, optional=True)
    rotated = await deps.callbacks.rotate(endpoint, hours=body.hours)
    return answered(new_callback_view(rotated), 200, NO_STORE)


@operation(PingView, status=202, body=Nothing, is_body_optional=True, refusals=(409,), before=_before)
async def ping(request: Request, deps: Deps) -> Response:
    """Send a test event of type `ping` to an endpoint; its deliveries show the result."""
    endpoint = await own_callback(request, deps)
    await read(request, Nothing, limit=MAX_BODY, optional=True)
    return answered(PingView(event=(await deps.callbacks.ping(endpoint)).id), 202)


@operation(ReplayView, status=202, body=ReplayRequest, refusals=(409,), before=_before)
async def replay(request: Request, deps: Deps) -> Response:
    """Send all failed and missed deliveries of events since a time again; a repetition finds no further one."""
    endpoint = await own_callback(request, deps)
    body = await read(request, ReplayRequest, limit=MAX_BODY)
    return answered(ReplayView(deliveries=await deps.callbacks.replay_since(endpoint, body.since)), 202)


def _wishes(body: CallbackSettings) -> Wishes:
    return Wishes(body.url, tuple(body.types), body.format, body.description, body.enabled)

"""`/callbacks/…/deliveries`: events on their way to an endpoint, and their attempts."""

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.callback_delivery import CallbackState, Delivery, Endpoint
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.bodies import Nothing, read
from broadway.ingest.http.deps import Deps
from broadway.ingest.v2.callbacks import MAX_BODY, own_callback
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.callbacks import callback_delivery_detail, callback_delivery_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.callbacks import CallbackDeliveryDetail, CallbackDeliveryView


class CallbackDeliveryQuery(PageQuery):
    """The query of a list of deliveries."""

    state: CallbackState | None = Field(default=None, description="return only deliveries in this state")


@operation(Page[CallbackDeliveryView], query=CallbackDeliveryQuery)
async def list_deliveries(request: Request, deps: Deps) -> Response:
    """List the deliveries to an endpoint by the time of their events, latest first. They are kept for 30 days."""
    endpoint = await own_callback(request, deps)
    query = query_of(request, CallbackDeliveryQuery)
    page = await deps.reads.callbacks.latest(endpoint, after=query.after, limit=query.limit, state=query.state)
    items = [callback_delivery_view(each, endpoint) for each in page.items]
    return answered(Page[CallbackDeliveryView](items=items, next=page.next))


@operation(CallbackDeliveryDetail)
async def show(request: Request, deps: Deps) -> Response:
    """Get a delivery with its last attempts and the event's data."""
    endpoint, delivery = await _own(request, deps)
    return answered(callback_delivery_detail(delivery, endpoint, await deps.reads.callbacks.event(delivery)))


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present delivery."""
    endpoint, delivery = await _own(request, deps)
    return callback_delivery_view(delivery, endpoint).model_dump(mode="json")


@operation(CallbackDeliveryView, status=202, body=Nothing, is_body_optional=True, refusals=(409,), before=_before)
async def replay(request: Request, deps: Deps) -> Response:
    """Send a delivery again, with the same id and a new schedule."""
    endpoint, delivery = await _own(request, deps)
    await read(request, Nothing, limit=MAX_BODY, optional=True)
    return answered(callback_delivery_view(await deps.callbacks.replay(endpoint, delivery), endpoint), 202)


async def _own(request: Request, deps: Deps) -> tuple[Endpoint, Delivery]:
    """Return the endpoint and the delivery in the path.

    Raises:
        Refused: 404.
    """
    endpoint = await own_callback(request, deps)
    delivery = await deps.reads.callbacks.delivery(endpoint, request.path_params["delivery"])
    if delivery is None:
        raise Refused(404, "this callback has no such delivery")
    return endpoint, delivery

"""`/hooks/…/deliveries`: received deliveries and their decisions."""

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.webhook import DeliveryState
from broadway.ingest.http.bodies import Nothing, read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.scope import own_delivery, own_hook
from broadway.ingest.v2.hooks import delivery_answer
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.hooks import delivery_detail, delivery_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.hooks import DeliveryDetail, DeliveryView


class DeliveryQuery(PageQuery):
    """The query of a list of deliveries."""

    state: DeliveryState | None = Field(default=None, description="return only deliveries in this state")


@operation(Page[DeliveryView], query=DeliveryQuery, operation_id="hooks_list_deliveries")
async def list_deliveries(request: Request, deps: Deps) -> Response:
    """List the deliveries that a hook has received, latest first."""
    hook = await own_hook(request, deps)
    query = query_of(request, DeliveryQuery)
    page = await deps.reads.hooks.latest(hook, after=query.after, limit=query.limit, state=query.state)
    return answered(Page[DeliveryView](items=[delivery_view(each) for each in page.items], next=page.next))


@operation(DeliveryDetail, operation_id="hooks_show_delivery")
async def show(request: Request, deps: Deps) -> Response:
    """Get a delivery with its body."""
    delivery = await own_delivery(request, deps)
    return answered(delivery_detail(delivery))


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present decision."""
    return delivery_view(await own_delivery(request, deps)).model_dump(mode="json")


@operation(
    DeliveryView,
    also={202: DeliveryView},
    body=Nothing,
    is_body_optional=True,
    refusals=(422, 429),
    operation_id="hooks_redeliver",
    before=_before,
)
async def redeliver(request: Request, deps: Deps) -> Response:
    """Decide a delivery again that made no run, for example after the roster was corrected.

    The delivery keeps the time at which it was first received. A final decision does not change.
    """
    delivery = await own_delivery(request, deps)
    await read(request, Nothing, limit=deps.settings.max_body_size, optional=True)
    delivery, is_new = await deps.receiver.receive_again(delivery)
    return delivery_answer(delivery, is_new=is_new)

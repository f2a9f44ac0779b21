"""`/hooks/…/deliveries`: received deliveries and their decisions."""

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
    """Which deliveries of a hook are wanted."""

    state: DeliveryState | None = Field(default=None, description="only those that have become this")


@operation(Page[DeliveryView], query=DeliveryQuery, operation_id="hooks_list_deliveries")
async def list_deliveries(request: Request, deps: Deps) -> Response:
    """What a hook has received, latest first."""
    hook = await own_hook(request, deps)
    wanted = query_of(request, DeliveryQuery)
    page = await deps.reads.hooks.latest(hook, after=wanted.after, limit=wanted.limit, state=wanted.state)
    return answered(Page[DeliveryView](items=[delivery_view(each) for each in page.items], next=page.next))


@operation(DeliveryDetail, operation_id="hooks_show_delivery")
async def show(request: Request, deps: Deps) -> Response:
    """A delivery, with what it said."""
    delivery = await own_delivery(request, deps)
    return answered(delivery_detail(delivery))


@operation(
    DeliveryView,
    also={202: DeliveryView},
    body=Nothing,
    is_body_optional=True,
    refusals=(422, 429),
    operation_id="hooks_redeliver",
)
async def redeliver(request: Request, deps: Deps) -> Response:
    """Decide a delivery anew that came to nothing, such as after the roster was put right. It keeps its first time."""
    delivery = await own_delivery(request, deps)
    await read(request, Nothing, limit=deps.settings.max_body_size, optional=True)
    delivery, is_new = await deps.receiver.receive_again(delivery)
    return delivery_answer(delivery, is_new=is_new)

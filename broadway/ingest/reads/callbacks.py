"""Reads of endpoints for callbacks and of deliveries to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broadway.domain.callback import CallbackEvent
from broadway.domain.callback_delivery import CallbackState, Delivery, Endpoint
from broadway.domain.pages import Slice, cursor, sliced
from broadway.lifecycle.callbacks import CallbackEventsById, EndpointsOfCourses


class EndpointQueries(EndpointsOfCourses, Protocol):
    """Queries on endpoints."""

    async def get(self, course: str, name: str) -> Endpoint | None:
        """Return an endpoint, or None."""


class CallbackDeliveryQueries(Protocol):
    """Queries on deliveries."""

    async def get(self, endpoint: str, delivery_id: str) -> Delivery | None:
        """Return a delivery to an endpoint, or None."""

    async def latest(
        self, endpoint: str, *, before: str | None, limit: int, state: CallbackState | None
    ) -> Sequence[Delivery]:
        """Return deliveries to an endpoint by the time of their events, latest first.

        Raises:
            CursorError: ``before`` is not a cursor.
        """


@dataclass(frozen=True, slots=True)
class CallbackReads:
    """Reads of the endpoints of any course."""

    endpoints: EndpointQueries
    deliveries: CallbackDeliveryQueries
    events: CallbackEventsById

    async def one(self, course: str, name: str) -> Endpoint | None:
        """Return an endpoint, or None."""
        return await self.endpoints.get(course, name)

    async def of_course(self, course: str) -> Sequence[Endpoint]:
        """Return a course's endpoints, by name."""
        return await self.endpoints.of_course(course)

    async def delivery(self, endpoint: Endpoint, delivery_id: str) -> Delivery | None:
        """Return a delivery to an endpoint, or None."""
        return await self.deliveries.get(endpoint.id, delivery_id)

    async def event(self, delivery: Delivery) -> CallbackEvent | None:
        """Return the event of a delivery; None once it is no longer kept."""
        return (await self.events.get_many([delivery.event])).get(delivery.event)

    async def latest(
        self, endpoint: Endpoint, *, after: str | None, limit: int, state: CallbackState | None
    ) -> Slice[Delivery]:
        """Return a page of deliveries to an endpoint, latest first.

        Raises:
            CursorError: ``after`` is not a cursor.
        """
        found = await self.deliveries.latest(endpoint.id, before=after, limit=limit + 1, state=state)
        return sliced(found, limit, lambda delivery: cursor(delivery.at, delivery.id))

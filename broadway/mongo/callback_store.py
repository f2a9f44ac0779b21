"""The collections of callbacks."""

from dataclasses import dataclass
from typing import Any, Self

from pymongo.asynchronous.database import AsyncDatabase

from broadway.mongo.callback_deliveries import CallbackDeliveries
from broadway.mongo.callback_endpoints import CallbackEndpoints
from broadway.mongo.callbacks import CallbackEvents


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Events, the endpoints of courses, and deliveries."""

    events: CallbackEvents
    endpoints: CallbackEndpoints
    deliveries: CallbackDeliveries

    @classmethod
    def of(cls, database: AsyncDatabase[dict[str, Any]]) -> Self:
        """Return the collections of a database."""
        events = CallbackEvents(database["callback_event"], database["callback_endpoint"])
        endpoints = CallbackEndpoints(database["callback_endpoint"], events)
        return cls(events, endpoints, CallbackDeliveries(database["callback_delivery"]))

    async def ensure_indexes(self) -> None:
        await self.events.ensure_indexes()
        await self.endpoints.ensure_indexes()
        await self.deliveries.ensure_indexes()

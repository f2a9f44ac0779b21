"""Make events into deliveries: one for each endpoint that wants the event."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from broadway.domain.callback import CallbackEvent, StoredEvent
from broadway.domain.callback_delivery import Delivery, Endpoint
from broadway.notifier.facts import Facts, Missing
from broadway.notifier.ports import Endpoints, Events, OutgoingDeliveries
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

BATCH = 100  # events at a time
LONGEST_CHECK = timedelta(hours=1)  # between two checks for a fact that is not stored


@dataclass(frozen=True, slots=True)
class FanOut:
    """Makes deliveries. Each step may be repeated: ids of deliveries follow from their event and endpoint.

    Another process repeats the steps of a claimed event after ``lease``.
    """

    events: Events
    endpoints: Endpoints
    deliveries: OutgoingDeliveries
    facts: Facts
    clock: Callable[[], datetime]
    lease: timedelta

    async def step(self) -> bool:
        """Make the deliveries of events that are due; return whether there may be more.

        Raises:
            StoreError: The store is unavailable.
        """
        now = self.clock()
        due = await self.events.due(now, limit=BATCH)
        claimed = await self.events.claim(due, now + self.lease)
        await reach(Point.CALLBACK_CLAIMED)
        made = [each for stored in claimed if (each := await self._sure(stored, now))]
        await reach(Point.CALLBACK_COMPLETED)
        by_course = {course: await self.endpoints.of_course(course) for course in {event.course for event in made}}
        await self.deliveries.add(_deliveries(made, by_course))
        await reach(Point.CALLBACK_DELIVERIES_STORED)
        if made:
            await self.events.finish([event.id for event in made])
        await reach(Point.CALLBACK_EVENT_DONE)
        return len(due) == BATCH

    async def _sure(self, stored: StoredEvent, now: datetime) -> CallbackEvent | None:
        """Return an event with its data if its fact is stored; drop or postpone any other."""
        event = stored.event
        if event.is_sure:
            return event
        with isolated("callbacks", about=event.id, course=event.course):
            data = await self.facts.data(event)
            if data is Missing.NEVER:
                await self.events.drop([event.id])
            elif isinstance(data, Missing):
                wait = min(timedelta(seconds=0.5 * 2 ** min(stored.tries, 20)), LONGEST_CHECK)
                await self.events.postpone([event.id], now + wait)
            else:
                await self.events.complete(event.id, data)
                return replace(event, data=data, is_sure=True)
        return None


def _deliveries(events: Sequence[CallbackEvent], by_course: Mapping[str, Sequence[Endpoint]]) -> list[Delivery]:
    return [
        Delivery.of(event, endpoint)
        for event in events
        for endpoint in by_course[event.course]
        if endpoint.wants(event)
    ]

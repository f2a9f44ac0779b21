"""Make events into deliveries: one for each endpoint that wants the event."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

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
        made = await self._sure(claimed, now)
        await reach(Point.CALLBACK_COMPLETED)
        by_course = {course: await self.endpoints.of_course(course) for course in {event.course for event in made}}
        await self.deliveries.add(_deliveries(made, by_course))
        await reach(Point.CALLBACK_DELIVERIES_STORED)
        if made:
            await self.events.finish([event.id for event in made])
        await reach(Point.CALLBACK_EVENT_DONE)
        return len(due) == BATCH

    async def _sure(self, claimed: Sequence[StoredEvent], now: datetime) -> list[CallbackEvent]:
        """Return the events whose facts are stored, with their data; drop or postpone the others."""
        found = await self.facts.about([each.event for each in claimed])
        sure, never, complete = list[CallbackEvent](), list[str](), dict[str, Mapping[str, Any]]()
        for stored in claimed:
            event = stored.event
            with isolated("callbacks", about=event.id, course=event.course):
                data = found.data(event)
                if data is Missing.NEVER:
                    never.append(event.id)
                elif isinstance(data, Missing):
                    await self.events.postpone([event.id], now + _pause(stored.tries))
                else:
                    sure.append(replace(event, data=data, is_sure=True))
                    complete |= {} if event.is_sure else {event.id: data}
        await self.events.complete(complete)
        if never:
            await self.events.drop(never)
        return sure


def _pause(tries: int) -> timedelta:
    """Return the time until the next check for a fact, which doubles with each check."""
    return min(timedelta(seconds=0.5 * 2 ** min(tries, 20)), LONGEST_CHECK)


def _deliveries(events: Sequence[CallbackEvent], by_course: Mapping[str, Sequence[Endpoint]]) -> list[Delivery]:
    return [
        Delivery.of(event, endpoint)
        for event in events
        for endpoint in by_course[event.course]
        if endpoint.wants(event)
    ]

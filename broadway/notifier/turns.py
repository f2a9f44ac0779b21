"""Send the deliveries that are due. One process at a time serves an endpoint, a few deliveries at a time."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import token_hex

import httpx2
import structlog

from broadway.domain.audit import AuditRecord, record_of_service
from broadway.domain.callback import CallbackEvent
from broadway.domain.callback_delivery import HEALTHY, Answer, Delivery, Endpoint
from broadway.notifier.attempts import Attempts
from broadway.notifier.ports import Endpoints, Events, OutgoingDeliveries, ServiceAudit
from broadway.runtime import metrics
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

MOST = 100  # rounds of deliveries in one turn, so that another process can take the next one


def _jitter() -> float:
    return random.uniform(-1, 1)  # noqa: S311 - not for secrets


@dataclass(frozen=True, slots=True)
class Turns:
    """Serves endpoints. ``holder`` names this process; ``jitter`` returns values between -1 and 1.

    A process that dies keeps its endpoint and its deliveries for ``lease``, which should be longer than an attempt.
    """

    events: Events
    endpoints: Endpoints
    deliveries: OutgoingDeliveries
    audit: ServiceAudit
    attempts: Attempts
    clock: Callable[[], datetime]
    lease: timedelta
    jitter: Callable[[], float] = _jitter
    holder: str = field(default_factory=lambda: token_hex(8))

    async def serve(self, endpoint_id: str) -> bool:
        """Send an endpoint's due deliveries, unless another process does so; return whether any was sent.

        Raises:
            StoreError: The store is unavailable; deliveries that were taken are due again later.
        """
        rounds = 0
        async with self.attempts.to_one_endpoint() as client:
            while rounds < MOST:
                if not await self._hold(endpoint_id):
                    return rounds > 0
                if not await self._round(endpoint_id, client):
                    break
                rounds += 1
        await self.endpoints.end_turn(endpoint_id, self.holder)
        return rounds > 0

    async def _hold(self, endpoint_id: str) -> bool:
        now = self.clock()
        if await self.endpoints.take_turn(endpoint_id, self.holder, now, now + self.lease):
            return True
        if await self.endpoints.by_id(endpoint_id) is None:
            await self.deliveries.delete_of(endpoint_id)
        return False

    async def _round(self, endpoint_id: str, client: httpx2.AsyncClient) -> bool:
        """Send as many deliveries as the endpoint may have at a time; return False if there is no further one now."""
        endpoint = await self.endpoints.by_id(endpoint_id)
        if endpoint is None:
            return False
        if not endpoint.is_enabled:
            await self.deliveries.miss_pending(endpoint_id)
            return False
        now = self.clock()
        if endpoint.paused_until and endpoint.paused_until > now:
            await self.deliveries.postpone(endpoint_id, endpoint.paused_until)
            return False
        taken = await self._take(endpoint, now)
        answers = await asyncio.gather(*(self._send(client, endpoint, each, event) for each, event in taken))
        await self._note(endpoint, answers)
        return bool(taken)

    async def _take(self, endpoint: Endpoint, now: datetime) -> list[tuple[Delivery, CallbackEvent | None]]:
        until, most = now + self.lease, 1 if endpoint.failing_since else HEALTHY
        taken = await self.deliveries.take(endpoint.id, now, most=most, lease=token_hex(8), until=until)
        events = await self.events.get_many([each.event for each in taken])
        await reach(Point.CALLBACK_TAKEN)
        return [(each, events.get(each.event)) for each in taken]

    async def _send(
        self, client: httpx2.AsyncClient, endpoint: Endpoint, delivery: Delivery, event: CallbackEvent | None
    ) -> Answer | None:
        """Send one delivery and store its result; return None if its event is no longer kept."""
        if event is None:
            answer = Answer(self.clock(), None, error="the event is no longer kept")
        else:
            answer = await self.attempts.send(client, endpoint, event)
        await reach(Point.CALLBACK_SENT)
        after = delivery.answered(answer, self.clock(), self.jitter())
        await self.deliveries.record(after, lease=delivery.lease or "")
        await reach(Point.CALLBACK_RECORDED)
        result = "delivered" if answer.is_success else "failed"
        metrics.CALLBACK_ATTEMPTS.labels(delivery.course, result).inc()
        log.info(
            "callback",
            course=delivery.course,
            callback=endpoint.name,
            event_type=delivery.type.value,
            about=delivery.event,
            attempt=after.attempt,
            status=answer.status,
            reason=answer.error,
            state=after.state.value,
        )
        return answer if event else None

    async def _note(self, endpoint: Endpoint, answers: Sequence[Answer | None]) -> None:
        """Store the endpoint's state after attempts; a disabled endpoint gets a record in the audit log."""
        after, now = endpoint, self.clock()
        for answer in answers:
            if answer and after.is_enabled:
                after = after.answered(answer, now)
        if after == endpoint:
            return
        if not after.is_enabled:
            log.warning("callback disabled", course=endpoint.course, callback=endpoint.name, reason=after.disabled)
            await self.audit.add(_record(after, now))
        await self.endpoints.put_state(after, of=endpoint)
        if not after.is_enabled:
            await self.deliveries.miss_pending(endpoint.id)


def _record(endpoint: Endpoint, now: datetime) -> AuditRecord:
    """Return the record of an endpoint that was disabled, the same if it is made again."""
    identity = hashlib.sha256(f"{endpoint.id}/{endpoint.failing_since}/{endpoint.disabled}".encode()).hexdigest()[:24]
    return record_of_service(
        identity,
        now,
        name="notifier",
        operation="callbacks_disabled",
        about=f"/api/v2/courses/{endpoint.course}/callbacks/{endpoint.name}",
        course=endpoint.course,
        after={"disabled": endpoint.disabled},
    )

"""Webhook deliveries: make them durable, and answer. Pure of HTTP.

A stored delivery will be decided, and its run be started: ``UndecidedDeliveries`` leads from here to ``Decider``.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from broadway.domain.webhook import Delivery, DeliveryState, Hook, Ignored, Push, delivery_key
from broadway.ingest.commands.decide import moved
from broadway.ingest.commands.limits import Limits
from broadway.ingest.commands.stores import DeliveryStore, RecentHooks
from broadway.ingest.commands.undecided import DECIDE_GRACE, UndecidedDeliveries
from broadway.lifecycle.announce import Later
from broadway.lifecycle.stores import CoursesById
from broadway.ports import Retry, StoreError
from broadway.runtime import metrics
from broadway.runtime.clock import now
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

ANSWER_WITHIN = 0.4  # seconds since the arrival; a decision that takes longer comes after the answer
CLEAN_AFTER = 50  # new deliveries of a hook; then its oldest ones are removed if there are too many, or later:
CLEAN_SHARE = 20  # after a twentieth of the deliveries that are kept, since finding the oldest reads all of them
KEPT_BODY = 64 * 1024  # bytes; larger bodies are not kept for the course staff


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivery as it arrives at a hook.

    ``received_at`` is the submission's time, if that is earlier than now, as that of an upload's beginning.
    """

    hook: Hook
    message: Push | Ignored
    delivery_id: str
    body: bytes = b""
    traceparent: str | None = None
    received_at: datetime | None = None

    def delivery(self, at: datetime, *, due_at: datetime) -> Delivery:
        """Return the delivery that arrives at ``at``, to be stored; it is due at a time unless it is ignored."""
        hook, pushed = self.hook, isinstance(self.message, Push)
        return Delivery(
            id=delivery_key(hook.course, hook.name, self.delivery_id),
            course=hook.course,
            hook=hook.name,
            assignment=hook.config.assignment,
            delivery_id=self.delivery_id,
            received_at=self.received_at or at,
            state=DeliveryState.RECEIVED if pushed else DeliveryState.IGNORED,
            push=self.message if isinstance(self.message, Push) else None,
            reason="" if isinstance(self.message, Push) else self.message.reason,
            due_at=due_at if pushed else None,
            body=self.body.decode("utf-8", "replace") if len(self.body) <= KEPT_BODY else None,
            traceparent=self.traceparent,
        )


@dataclass(frozen=True, slots=True)
class Receiver:
    """Stores deliveries and hands them over to be decided."""

    courses: CoursesById
    hooks: RecentHooks
    deliveries: DeliveryStore
    undecided: UndecidedDeliveries
    limits: Limits
    later: Later
    answer_within: float = ANSWER_WITHIN
    _arrived: Counter[tuple[str, str]] = field(default_factory=Counter)  # new deliveries by course and hook

    async def receive(self, arrival: Arrival) -> tuple[Delivery, bool]:
        """Store a delivery, then wait a moment for its decision; return it, and whether it was undecided.

        Raises:
            UnstorableError: The delivery is too large for the store; nothing is stored.
        """
        until = time.monotonic() + self.answer_within
        delivery, is_new = await self.keep(arrival)
        return await self._decided(delivery, until=until), is_new

    async def receive_again(self, delivery: Delivery) -> tuple[Delivery, bool]:
        """Decide a delivery again, unless its decision is final; return it, and whether it was decided again."""
        until = time.monotonic() + self.answer_within
        delivery, is_new = await self.reopen(delivery)
        return await self._decided(delivery, until=until), is_new

    async def _decided(self, delivery: Delivery, *, until: float) -> Delivery:
        """Hand a delivery over; return it as decided, or as stored if it is still undecided at a time."""
        coming = self.undecided.hand_over(delivery) if delivery.due_at else None
        if coming is None:
            return delivery
        done, _ = await asyncio.wait([coming], timeout=max(0, until - time.monotonic()))
        return (coming.result() if done else None) or delivery

    async def keep(self, arrival: Arrival) -> tuple[Delivery, bool]:
        """Store a delivery unless it is stored already; return it as stored, and whether it must be decided.

        A stored delivery must be decided again if its decision is not final, such as after a used-up quota.

        Raises:
            UnstorableError: The delivery is too large for the store; nothing is stored.
        """
        at, hook = now(), arrival.hook
        arrived = arrival.delivery(
            at, due_at=self.undecided.due_at(hook.course, at, received_at=arrival.received_at or at)
        )
        with self.undecided.arriving():
            delivery, is_new = await self.deliveries.keep(arrived)
        if not is_new:
            return await self.reopen(delivery)
        metrics.WEBHOOK_DELIVERIES.labels(delivery.course, delivery.state).inc()
        cleanings, remainder = divmod(self._arrived[hook.course, hook.name], CLEAN_AFTER)
        if remainder == 0:
            self.later(self._remove_oldest(hook, cleanings))
        self._arrived[hook.course, hook.name] += 1
        await reach(Point.PUSH_KEPT)
        return delivery, True

    async def _remove_oldest(self, hook: Hook, cleanings: int) -> None:
        """Remove the hook's oldest deliveries beyond the number that its course may keep, unless it is too early."""
        try:
            course = await self.courses.get(hook.course)
            most = (self.limits.of_course(course) if course else self.limits).deliveries
            if cleanings % max(1, most // CLEAN_SHARE // CLEAN_AFTER):
                return
            if removed := await self.deliveries.keep_latest(hook.course, hook.name, most):
                log.info("oldest deliveries removed", hook=f"{hook.course}/{hook.name}", number=removed, kept=most)
        except (StoreError, Retry) as error:
            log.warning("oldest deliveries not removed yet", hook=hook.name, reason=str(error))

    async def reopen(self, delivery: Delivery) -> tuple[Delivery, bool]:
        """Make a delivery due again, unless its decision is final; return it, and whether this call made it due.

        It keeps the time at which it was first received.
        """
        if delivery.is_final or delivery.state is DeliveryState.RECEIVED:
            return delivery, False
        return await moved(
            delivery, DeliveryState.RECEIVED, deliveries=self.deliveries, due_at=now() + DECIDE_GRACE
        ), True

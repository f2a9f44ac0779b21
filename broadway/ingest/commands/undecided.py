"""The way from a stored delivery to its decision: it waits for its turn here, or in the store until there is room.

A waiting delivery is leased to this process until its ``due_at``. The lease is renewed while it waits. A delivery whose
lease has ended is claimed by one of the processes that look for such deliveries.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from broadway.domain.webhook import Delivery
from broadway.ingest.commands.stores import UndecidedStore
from broadway.ingest.commands.waiting_deliveries import WaitingDeliveries
from broadway.lifecycle.orders import RunIsBusyError
from broadway.ports import Retry, StoreError
from broadway.runtime import metrics
from broadway.runtime.cancellation import end
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

DECIDE_GRACE = timedelta(seconds=10)  # for the process that has a delivery
AT_ONCE = 32  # decisions; they share reads and writes of the store, and leave time for answers
LEAST_AT_ONCE = 2  # while many deliveries are being stored
YIELDED = 2  # decisions that do not begin for each delivery that is being stored
FINISH_WITHIN = 3.0  # seconds, for decisions that have begun when the process ends
SWEEP_INTERVAL = 5.0  # seconds
SWEEP = 100  # deliveries at a time

Decide = Callable[[Delivery], Awaitable[Delivery]]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class UndecidedDeliveries:
    """The undecided deliveries of this process; a limited number of them is decided at a time.

    Args:
        deliveries: The stored deliveries.
        decide: Decides a delivery. It may be called again for the same delivery, here or in another process.
        waiting: The deliveries that wait here.
        at_once: The maximum number of concurrent decisions.
        clock: Returns the time.
    """

    def __init__(
        self,
        deliveries: UndecidedStore,
        decide: Decide,
        *,
        waiting: WaitingDeliveries | None = None,
        at_once: int = AT_ONCE,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._deliveries = deliveries
        self._decide = decide
        self._waiting = WaitingDeliveries() if waiting is None else waiting
        self._at_once = at_once
        self._clock = clock
        self._coming: dict[str, asyncio.Future[Delivery | None]] = {}  # by id, of all that wait or are being decided
        self._lost: set[str] = set()  # ids of those whose process did not decide them in time
        self._turns: set[asyncio.Task[None]] = set()
        self._arriving = 0  # deliveries that are being stored
        self._may_turn = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_more = False  # deliveries of which the store knows and that had no room here

    def due_at(self, course: str, now: datetime, *, received_at: datetime) -> datetime:
        """Return when a new delivery is due: after a while if there is room for it here, and at once if there is none.

        The caller stores the delivery with that time before it hands the delivery over.
        """
        return now + DECIDE_GRACE if self._waiting.room(course) else received_at

    @contextlib.contextmanager
    def arriving(self) -> Iterator[None]:
        """Let fewer decisions begin while a block stores a delivery: the slower the store, the more it has to store."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
            self._may_turn.set()

    def _free_turns(self) -> int:
        most = max(self._at_once - YIELDED * self._arriving, min(LEAST_AT_ONCE, self._at_once))
        return most - len(self._turns)

    def hand_over(self, delivery: Delivery) -> asyncio.Future[Delivery | None] | None:
        """Have a stored delivery decided; return its coming decision, or None if it waits in the store.

        The coming decision is None if the delivery could not be decided; then it stays due.
        """
        if coming := self._coming.get(delivery.id):
            return coming
        is_promised = delivery.due_at is not None and delivery.due_at > self._clock()
        if not (is_promised or self._waiting.room(delivery.course)):
            self._has_more = True
            return None
        return self._add(delivery)

    def _add(self, delivery: Delivery) -> asyncio.Future[Delivery | None]:
        coming = self._coming[delivery.id] = asyncio.get_running_loop().create_future()
        metrics.WEBHOOK_UNDECIDED.set(len(self._coming))
        self._waiting.add(replace(delivery, body=None))  # a decision does not need the body
        self._may_turn.set()
        return coming

    async def run(self) -> None:
        """Decide the deliveries that wait here, until cancelled; then leave the others to other processes."""
        try:
            while True:
                await self._may_turn.wait()
                self._may_turn.clear()
                for delivery in self._waiting.take(self._free_turns()):
                    turn = asyncio.create_task(self._turn(delivery))
                    self._turns.add(turn)
                    turn.add_done_callback(self._over)
        finally:
            if self._turns:
                await asyncio.wait(self._turns, timeout=FINISH_WITHIN)
            await end(*self._turns)
            await self._release()

    def _over(self, turn: asyncio.Task[None]) -> None:
        self._turns.discard(turn)
        self._may_turn.set()

    async def _release(self) -> None:
        """Make the waiting deliveries due at once, as if there had been no room for them."""
        waiting, leased = self._waiting.due(datetime.max.replace(tzinfo=UTC)), self._clock() + DECIDE_GRACE
        claims = (self._deliveries.claim(each, before=leased, until=each.received_at) for each in waiting)
        with contextlib.suppress(StoreError, Retry, TimeoutError):  # then they are due when their leases end
            async with asyncio.timeout(FINISH_WITHIN):
                await asyncio.gather(*claims)
        for coming in self._coming.values():
            if not coming.done():
                coming.set_result(None)

    async def _turn(self, delivery: Delivery) -> None:
        """Decide a delivery that has its turn; after any error it stays due."""
        decided = None
        try:
            decided = await self._decide_leased(delivery)
        except (StoreError, RunIsBusyError, Retry) as error:
            log.warning("delivery not decided yet", delivery=delivery.id, reason=str(error), **delivery.context)
        except Exception:  # one delivery must not block the decisions of others
            log.exception("delivery not decided", delivery=delivery.id, **delivery.context)
        finally:
            self._lost.discard(delivery.id)
            self._waiting.release(delivery)
            if self._has_more and len(self._waiting) < self._at_once:
                self._has_room.set()
            coming = self._coming.pop(delivery.id)
            metrics.WEBHOOK_UNDECIDED.set(len(self._coming))
            if not coming.done():
                coming.set_result(decided)

    async def _decide_leased(self, delivery: Delivery) -> Delivery | None:
        """Decide a delivery; return None if another process has claimed it meanwhile."""
        now = self._clock()
        if delivery.due_at and delivery.due_at <= now:
            until = now + DECIDE_GRACE
            if not await self._deliveries.claim(delivery, before=now, until=until):
                return None
            delivery = replace(delivery, due_at=until)
        decided = await self._decide(delivery)
        if delivery.id in self._lost:
            metrics.REPAIRS.labels(metrics.Repair.DELIVERY).inc()
            about = {"delivery": decided.id, "state": decided.state.value, **decided.context}
            log.warning("repair: delivery decided late", **about)
        return decided

    async def look_around(self) -> None:
        """Renew leases and claim due deliveries, regularly and as soon as there is room for more, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_INTERVAL):
                    await self._has_room.wait()
            self._has_room.clear()
            try:
                with isolated("deliveries"):
                    await self.sweep()
            except (StoreError, Retry) as error:
                log.warning("deliveries not looked after", reason=str(error))

    async def sweep(self) -> None:
        """Renew the leases of waiting deliveries, then claim deliveries that are due and have room here."""
        now = self._clock()
        soon = now + timedelta(seconds=SWEEP_INTERVAL * 1.5)
        for delivery in await self._claim(self._waiting.due(soon), before=soon, now=now):
            self._waiting.replace(delivery)
        full = self._waiting.full_courses()
        found = await self._deliveries.undecided(now, limit=SWEEP, without=full)
        claimed = await self._claim(self._fitting(found), before=now, now=now)
        for delivery in claimed:
            if delivery.id not in self._coming:  # otherwise it was handed over meanwhile
                self._add(delivery)
        late = {each.id for each in found if not each.is_deferred}
        self._lost |= late & {each.id for each in claimed}
        self._has_more = bool(full) or (bool(claimed) and len(found) == SWEEP)

    def _fitting(self, found: Sequence[Delivery]) -> list[Delivery]:
        """Return the deliveries that are not here and have room."""
        fitting: list[Delivery] = []
        of_courses: Counter[str] = Counter()
        for delivery in found:
            room = self._waiting.room(delivery.course) - of_courses[delivery.course]
            if delivery.id not in self._coming and room > 0:
                fitting.append(delivery)
                of_courses[delivery.course] += 1
        return fitting

    async def _claim(self, deliveries: Sequence[Delivery], *, before: datetime, now: datetime) -> list[Delivery]:
        """Lease deliveries that are due before a time; return those that no other process has leased first."""
        until = now + DECIDE_GRACE
        claims = (self._deliveries.claim(each, before=before, until=until) for each in deliveries)
        results = await asyncio.gather(*claims)
        if results:
            await reach(Point.PUSH_CLAIMED)
        return [replace(each, due_at=until) for each, is_ours in zip(deliveries, results, strict=True) if is_ours]

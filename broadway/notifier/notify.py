"""The notifier's loop: events into deliveries, deliveries to endpoints, and the repair of announcements."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from broadway.domain.callback import KEPT_DAYS
from broadway.lifecycle.callbacks import Announcing
from broadway.notifier.fan_out import FanOut
from broadway.notifier.ports import Events, OutgoingDeliveries
from broadway.notifier.turns import Turns
from broadway.ports import StoreError
from broadway.runtime.cancellation import end
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

POLL = 2.0  # seconds between two looks at the store if the broker reports nothing
AT_A_TIME = 50  # endpoints served by this process
ANNOUNCED = 100  # facts announced in one step
EXPIRE_EACH = timedelta(hours=1)


@dataclass(slots=True)
class Notifier:
    """Notifies endpoints. Every process may do so at the same time. ``wake`` is set when there may be work."""

    events: Events
    deliveries: OutgoingDeliveries
    fan_out: FanOut
    turns: Turns
    clock: Callable[[], datetime]
    announcing: Sequence[Announcing] = ()
    poll: float = POLL
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    _serving: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _expired_at: datetime | None = None

    async def run(self) -> None:
        """Notify endpoints until cancelled."""
        try:
            while True:
                self.wake.clear()
                try:
                    await self.plan()
                    await self._serve_in_background()
                except StoreError as error:
                    log.warning("callbacks wait for the store", reason=str(error))
                try:
                    async with asyncio.timeout(self.poll):
                        await self.wake.wait()
                except TimeoutError:
                    continue
        finally:
            await end(*self._serving.values())

    async def step(self) -> None:
        """Do all that is due now, one endpoint after another.

        Raises:
            StoreError: The store is unavailable.
        """
        await self.plan()
        for endpoint_id in await self.deliveries.due_endpoints(self.clock()):
            await self.turns.serve(endpoint_id)

    async def plan(self) -> None:
        """Announce facts whose process has died, make deliveries of events, and remove old ones.

        Raises:
            StoreError: The store is unavailable.
        """
        for announcing in self.announcing:
            await announcing.announce_due(limit=ANNOUNCED)
        while await self.fan_out.step():
            pass
        await self._expire()

    async def _expire(self) -> None:
        now = self.clock()
        if self._expired_at and now - self._expired_at < EXPIRE_EACH:
            return
        before = now - timedelta(days=KEPT_DAYS)
        await self.deliveries.expire(before)
        await self.events.expire(before)
        self._expired_at = now

    async def _serve_in_background(self) -> None:
        for endpoint_id in await self.deliveries.due_endpoints(self.clock()):
            if endpoint_id not in self._serving and len(self._serving) < AT_A_TIME:
                self._serving[endpoint_id] = asyncio.create_task(self._serve(endpoint_id))

    async def _serve(self, endpoint_id: str) -> None:
        try:
            with isolated("callbacks", endpoint=endpoint_id):
                if await self.turns.serve(endpoint_id):
                    self.wake.set()
        except StoreError as error:
            log.warning("callbacks wait for the store", reason=str(error))
        finally:
            self._serving.pop(endpoint_id, None)

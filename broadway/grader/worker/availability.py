"""A grader's capacity for jobs, from its operator's orders and its own self-check."""

import asyncio
import contextlib
from dataclasses import dataclass, field

import structlog

from broadway.domain.grader import GraderMode
from broadway.grader.worker.self_check import SelfCheck
from broadway.messages.events import GraderOrder

log = structlog.get_logger(__name__)

FINAL_REVISION = 2**53  # a revision later than every other
CHECK_INTERVAL = 0.5  # seconds between checks of state that sends no events, such as a disk


@dataclass(slots=True)
class Availability:
    """A grader's slots, and the reason, if any, for which they must stay empty.

    Args:
        self_check: The grader's check of its own state.
        own_slots: Jobs at a time, unless the operator orders another number.
        order: The operator's latest order.
    """

    self_check: SelfCheck
    own_slots: int
    order: GraderOrder
    ordered: asyncio.Event = field(default_factory=asyncio.Event)  # an order has arrived that is not carried out yet
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # the state has changed since the last heartbeat

    @property
    def slots(self) -> int:
        """The maximum number of jobs at a time while the grader is available."""
        return self.order.slots or self.own_slots

    @property
    def reason(self) -> str:
        """The reason for which the grader must take no job now; empty if it may."""
        match self.order.mode:
            case GraderMode.PAUSED:
                return self.order.reason or "paused by an operator"
            case GraderMode.DRAINING:
                return self.order.reason or "drained by an operator"
            case GraderMode.REVOKED:
                return self.order.reason or "revoked by an operator"
        return self.self_check.reason

    @property
    def capacity(self) -> int:
        """The number of jobs that may run at a time now; 0 while there is a reason against it."""
        return 0 if self.reason else self.slots

    @property
    def is_draining(self) -> bool:
        return self.order.mode is GraderMode.DRAINING

    @property
    def is_revoked(self) -> bool:
        return self.order.mode is GraderMode.REVOKED

    def obey(self, order: GraderOrder) -> None:
        """Adopt an order, unless one of the same or a later revision has been adopted already.

        An order to take jobs ends the grader's own pause, too; one that changes the slots does not.
        """
        if order.revision <= self.order.revision:
            return
        log.info("ordered", mode=order.mode.value, slots=order.slots, reason=order.reason, revision=order.revision)
        was_online = self.order.mode is GraderMode.ONLINE
        if order.mode is GraderMode.ONLINE and not (was_online and order.slots != self.order.slots):
            self.self_check.resume()
        self.order = order
        self.ordered.set()
        self.changed.set()

    def resign(self, reason: str) -> None:
        """Stop taking jobs for good, because the API refuses this grader."""
        self.obey(
            self.order.model_copy(update={"mode": GraderMode.REVOKED, "reason": reason, "revision": FINAL_REVISION})
        )

    async def change(self) -> None:
        """Return once an order has arrived, or it is time for the next check."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_INTERVAL):
                await self.ordered.wait()
        self.ordered.clear()

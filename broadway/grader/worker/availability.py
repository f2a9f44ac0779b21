"""What a grader may take: as much as its operator wants of it, and as its own state allows."""

import asyncio
import contextlib
from dataclasses import dataclass, field

import structlog

from broadway.domain.grader import GraderMode
from broadway.grader.worker.self_check import SelfCheck
from broadway.messages.events import GraderOrder

log = structlog.get_logger(__name__)

LAST = 2**53  # a revision that no other comes after
LOOK = 0.5  # seconds between two looks at what changes without a word, such as a disk


@dataclass(slots=True)
class Availability:
    """A grader's slots, and whether it may fill them.

    Args:
        self_check: The grader's own state.
        own_slots: Jobs at a time, unless the operator wants another number.
        order: What the operator wants.
    """

    self_check: SelfCheck
    own_slots: int
    order: GraderOrder
    told: asyncio.Event = field(default_factory=asyncio.Event)  # an order has come that is not carried out yet
    news: asyncio.Event = field(default_factory=asyncio.Event)  # something has changed that is not told yet

    @property
    def slots(self) -> int:
        """Jobs at a time, at most."""
        return self.order.slots or self.own_slots

    @property
    def reason(self) -> str:
        """Why no job is to be taken now; empty if there is no reason."""
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
        """Jobs at a time just now."""
        return 0 if self.reason else self.slots

    @property
    def is_draining(self) -> bool:
        return self.order.mode is GraderMode.DRAINING

    @property
    def is_revoked(self) -> bool:
        return self.order.mode is GraderMode.REVOKED

    def obey(self, order: GraderOrder) -> None:
        """Take an order, unless a later one has come already."""
        if order.revision <= self.order.revision:
            return
        log.info("ordered", mode=order.mode.value, slots=order.slots, reason=order.reason, revision=order.revision)
        self.order = order
        self.told.set()
        self.news.set()

    def resign(self, reason: str) -> None:
        """Take no jobs any more: the API does not have us."""
        self.obey(self.order.model_copy(update={"mode": GraderMode.REVOKED, "reason": reason, "revision": LAST}))

    async def change(self) -> None:
        """Return when it is time to look again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await self.told.wait()
        self.told.clear()

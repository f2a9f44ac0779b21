"""The check that a grader's report comes from a grader that has received the job: by ticket and by proof."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

import structlog

from broadway.messages.events import Event, ExecutionEvent
from broadway.messages.ticket import Tickets
from broadway.ports import StoreError

log = structlog.get_logger(__name__)

RECHECK = 30.0  # seconds for which a grader of an earlier version is remembered
STORE_PAUSE = 1.0  # seconds before the next try while the store is unavailable
REMEMBERED = 10_000  # graders


class ProvingGraders(Protocol):
    """The operation on stored graders that the check needs."""

    async def must_prove(self, grader_id: str, now: datetime) -> bool:
        """Return whether a grader's reports must have proofs, since it has a key for them."""


class Vouching:
    """Decides whether an event of a grader is genuine. The sender's name has been checked before.

    A report needs its job's ticket. It also needs its grader's proof, unless the grader is of an earlier version, which
    has no key for proofs.
    """

    def __init__(self, tickets: Tickets, graders: ProvingGraders) -> None:
        self._tickets = tickets
        self._graders = graders
        self._unable: dict[str, float] = {}  # the times of the last check, by grader without a key

    async def __call__(self, event: Event) -> bool:
        """Return False for an event about a job's execution without a valid ticket or without a necessary proof."""
        if not isinstance(event, ExecutionEvent):
            return True
        if not self._tickets.is_ticket_of(event):
            return False
        if event.proof:
            return self._tickets.is_proven(event)
        return not await self._must_prove(event.grader_id)

    async def _must_prove(self, grader_id: str) -> bool:
        now = time.monotonic()
        checked = self._unable.get(grader_id)
        if checked is not None and now - checked < RECHECK:
            return False
        if await self._read(grader_id):
            self._unable.pop(grader_id, None)
            return True
        if checked is None:
            log.warning("a grader of an earlier version reports without proofs", grader=grader_id)
        if len(self._unable) >= REMEMBERED:
            self._unable.clear()
        self._unable[grader_id] = now
        return False

    async def _read(self, grader_id: str) -> bool:
        while True:
            try:
                return await self._graders.must_prove(grader_id, datetime.now(UTC))
            except StoreError as error:
                log.warning("a report's sender not checked yet", grader=grader_id, reason=str(error))
                await asyncio.sleep(STORE_PAUSE)

"""Emit events of a course, which the notifier sends to the course's endpoints.

A fact whose store has a time of announcement, such as a published grade book, is emitted after it is stored; the
notifier emits again what a process that died has not. Outcomes of jobs and ends of runs are written before the fact,
by their collections.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from broadway.domain.callback import CallbackEvent
from broadway.runtime.crashpoints import Point, reach


class CallbackOutbox(Protocol):
    """The stored events."""

    async def emit(self, event: CallbackEvent) -> None:
        """Return once the event is stored, if its course has an endpoint; a repetition changes nothing.

        Raises:
            StoreError: The store is unavailable.
        """


class Announced(Protocol):
    """Stored facts that keep the time from which other processes announce them."""

    async def unannounced(self, before: datetime, *, limit: int) -> Sequence[CallbackEvent]:
        """Return the events of facts whose announcement was due before a moment."""

    async def mark_announced(self, event: CallbackEvent) -> None:
        """Clear the time of announcement, unless a later fact has set it again."""


async def announce_event(event: CallbackEvent, *, source: Announced, outbox: CallbackOutbox) -> None:
    """Emit the event of a stored fact, then clear the fact's time of announcement.

    Raises:
        StoreError: The store is unavailable; the notifier announces the fact later.
    """
    await outbox.emit(event)
    await reach(Point.CALLBACK_EMITTED)
    await source.mark_announced(event)

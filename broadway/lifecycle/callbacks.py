"""Emit events of a course, which the notifier sends to the course's endpoints.

A fact whose store has a time of announcement, such as a published grade book, is emitted after it is stored; the
notifier emits again what a process that died has not. Outcomes of jobs and ends of runs are written before the fact,
by their collections.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from broadway.domain.callback import CallbackEvent
from broadway.domain.callback_delivery import Endpoint
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

    async def to_announce(self, *, limit: int) -> Sequence[Any]:
        """Return facts whose announcement is due, the earliest first."""

    async def announced(self, fact: Any, /) -> None:
        """Clear the time of announcement, unless a later fact has set it again."""


class CallbackEventsById(Protocol):
    """Events by id."""

    async def get_many(self, event_ids: Sequence[str]) -> Mapping[str, CallbackEvent]:
        """Return events by id; unknown ids are left out."""


class EndpointsOfCourses(Protocol):
    """Endpoints by course."""

    async def of_course(self, course: str) -> Sequence[Endpoint]:
        """Return a course's endpoints, by name."""


class DeliveriesOfEndpoints(Protocol):
    """Deliveries by endpoint."""

    async def delete_of(self, endpoint: str) -> None:
        """Remove the deliveries to an endpoint that was removed."""


@dataclass(frozen=True, slots=True)
class Announcing:
    """Announces facts of one kind; ``event_of`` returns the event of a fact."""

    source: Announced
    outbox: CallbackOutbox
    event_of: Callable[[Any], CallbackEvent]

    async def announce(self, fact: Any) -> None:
        """Emit the event of a stored fact, then clear the fact's time of announcement.

        Raises:
            StoreError: The store is unavailable; the notifier announces the fact later.
        """
        await self.outbox.emit(self.event_of(fact))
        await reach(Point.CALLBACK_EMITTED)
        await self.source.announced(fact)

    async def announce_due(self, *, limit: int) -> None:
        """Announce facts whose process has died before it announced them.

        Raises:
            StoreError: The store is unavailable.
        """
        for fact in await self.source.to_announce(limit=limit):
            await self.announce(fact)


def grades_published(book: Any) -> CallbackEvent:
    """Return the event of a published version of a grade book, by its pointer."""
    return CallbackEvent.grades_published(book.course, book.assignment, book.version, at=book.at, by=book.by)


def regrade_ready(regrade: Any) -> CallbackEvent:
    """Return the event of a regrade that can be compared."""
    return CallbackEvent.regrade_ready(regrade.course, regrade.assignment, regrade.id, at=regrade.ready_at)

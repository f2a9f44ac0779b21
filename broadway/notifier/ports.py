"""The operations on the store that the notifier needs."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from broadway.domain.audit import AuditRecord
from broadway.domain.callback import StoredEvent
from broadway.domain.callback_delivery import Delivery, Endpoint
from broadway.domain.run import Run
from broadway.domain.settlement import Settlement
from broadway.lifecycle.callbacks import CallbackEventsById, DeliveriesOfEndpoints, EndpointsOfCourses
from broadway.lifecycle.stores import JobsById


class Events(CallbackEventsById, Protocol):
    """The stored events."""

    async def due(self, now: datetime, *, limit: int) -> Sequence[StoredEvent]:
        """Return events whose next step is due, longest due first."""

    async def claim(self, events: Sequence[StoredEvent], until: datetime) -> Sequence[StoredEvent]:
        """Postpone the next step of events to ``until``; return those that no other process has claimed."""

    async def postpone(self, event_ids: Sequence[str], until: datetime) -> None:
        """Check events again at ``until``, since their facts are not stored yet."""

    async def complete(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the data of events whose facts are stored, by their ids."""

    async def finish(self, event_ids: Sequence[str]) -> None:
        """Take events out of the outbox: their deliveries are stored."""

    async def drop(self, event_ids: Sequence[str]) -> None:
        """Remove events that are for no endpoint."""

    async def courses(self) -> frozenset[str]:
        """Return the courses that have endpoints."""

    async def expire(self, before: datetime) -> int:
        """Remove events from before a moment; return their number."""


class Endpoints(EndpointsOfCourses, Protocol):
    """The stored endpoints."""

    async def by_id(self, endpoint_id: str) -> Endpoint | None:
        """Return an endpoint, or None."""

    async def put_state(self, endpoint: Endpoint, *, of: Endpoint) -> bool:
        """Store the state of an endpoint after an attempt, unless its settings have changed since they were read."""

    async def take_turn(self, endpoint_id: str, holder: str, now: datetime, until: datetime) -> bool:
        """Take or extend the right to send to an endpoint; return False while another process has it."""

    async def end_turn(self, endpoint_id: str, holder: str) -> None:
        """Let other processes send to an endpoint."""


class OutgoingDeliveries(DeliveriesOfEndpoints, Protocol):
    """The stored deliveries."""

    async def add(self, deliveries: Sequence[Delivery]) -> None:
        """Store new deliveries; those that are stored stay as they are."""

    async def due_endpoints(self, now: datetime) -> Sequence[str]:
        """Return the ids of endpoints that have deliveries to send."""

    async def take(self, endpoint: str, now: datetime, *, most: int, lease: str, until: datetime) -> Sequence[Delivery]:
        """Take the deliveries of an endpoint that have been due for longest, ``most`` at a time."""

    async def record(self, delivery: Delivery, *, lease: str) -> bool:
        """Store the result of an attempt, unless another sender has taken the delivery, or it was replayed."""

    async def postpone(self, endpoint: str, until: datetime) -> None:
        """Postpone the pending deliveries of an endpoint that are due before ``until``."""

    async def miss_pending(self, endpoint: str) -> None:
        """End the pending deliveries of an endpoint that is disabled."""

    async def expire(self, before: datetime) -> int:
        """Remove deliveries of events from before a moment; return their number."""


class EndedJobs(JobsById, Protocol):
    """Jobs and their outcomes."""

    async def settlements(self, keys: Sequence[str]) -> Mapping[str, Settlement]:
        """Return outcomes of jobs' generations by key, with their results; unknown keys are left out."""


class EndedRuns(Protocol):
    """Runs and their ends."""

    async def last_ends(self, run_ids: Sequence[str]) -> Mapping[str, tuple[Run, int]]:
        """Return runs by id, each with the last round that has ended, or 0."""


class ServiceAudit(Protocol):
    """The audit log, for actions of services."""

    async def add(self, record: AuditRecord) -> None:
        """Store a record."""

"""Graders as the store knows them: orders, states, and how they reach the cluster. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

MAX_SLOTS = 512  # of one grader


class GraderMode(StrEnum):
    """The mode that an operator has ordered for a grader."""

    ONLINE = "online"
    PAUSED = "paused"
    DRAINING = "draining"
    REVOKED = "revoked"


class GraderState(StrEnum):
    """The state of a grader, by its own reports; its operator may have ordered another one."""

    ONLINE = "online"
    PAUSED = "paused"
    DRAINING = "draining"
    DRAINED = "drained"
    GONE = "gone"
    REVOKED = "revoked"


class GraderLink(StrEnum):
    """The way on which jobs reach a grader."""

    BROKER = "broker"
    WEBSOCKET = "websocket"
    POLLING = "polling"


class RevokedError(Exception):
    """The grader has been revoked: it gets no jobs and may not join."""


@dataclass(frozen=True, slots=True)
class StandingOrder:
    """Everything that an operator has ordered of a grader. Each change raises ``revision``; the highest one holds.

    ``slots`` is None while the grader's own setting holds.
    """

    revision: int = 0
    mode: GraderMode = GraderMode.ONLINE
    slots: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Grader:
    """A grader that has joined, registered, sent a heartbeat, or been given an order.

    Args:
        id: The grader's id.
        hostname: Its host.
        pool: The pool whose jobs it takes.
        slots: The jobs that it runs at a time at present, 0 while it has paused; None if it never said.
        own_slots: The slots that it was started with; None if it has not joined.
        alive: Whether it is taken for alive.
        left: Whether it has said goodbye.
        last_seen: When it was heard of last, by the store's writers; None if never.
        sent_at: When it sent its last heartbeat, by its own clock.
        joined_at: When it joined last.
        registered_at: When it registered with a gateway last, or the start of the oldest job that it resumed then; for
            any other grader, when it was heard of last.
        gateway: The API process that it registered with; empty for a grader at the broker.
        session: That registration.
        over_socket: Whether it registered over a WebSocket.
        extended: Whether it understands what we add to the original's protocol.
        runtime: The runtime that starts its containers; empty if it does not say.
        paused: Why it takes no jobs; empty while it does.
        draining: Whether it finishes its jobs and takes no others.
        reported_jobs: Ids of the jobs that it reported or was given last.
        jobs_processed: How many jobs it has started.
        broker_user: Its own user at the broker.
        order: Everything that its operator has ordered of it.
    """

    id: str
    hostname: str = ""
    pool: str = "default"
    slots: int | None = None
    own_slots: int | None = None
    alive: bool = False
    left: bool = False
    last_seen: datetime | None = None
    sent_at: datetime | None = None
    joined_at: datetime | None = None
    registered_at: datetime | None = None
    gateway: str = ""
    session: str = ""
    over_socket: bool = False
    extended: bool = False
    runtime: str = ""
    paused: str = ""
    draining: bool = False
    reported_jobs: tuple[str, ...] = ()
    jobs_processed: int = 0
    broker_user: str | None = None
    order: StandingOrder = StandingOrder()

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the jobs that it runs; a grader that is not alive runs none."""
        return self.reported_jobs if self.alive else ()

    @property
    def is_revoked(self) -> bool:
        """Whether its operator has revoked it."""
        return self.order.mode is GraderMode.REVOKED

    @property
    def is_wanted(self) -> bool:
        """Whether its operator lets it take jobs."""
        return self.order.mode is GraderMode.ONLINE

    @property
    def has_slots(self) -> bool:
        """Whether it takes jobs, by its own report."""
        return self.slots is None or self.slots > 0

    @property
    def allowed_slots(self) -> int:
        """The jobs that it may run at a time: as ordered, or as it was started with."""
        return self.order.slots or self.own_slots or self.slots or 1

    @property
    def link(self) -> GraderLink:
        """The way on which jobs reach it."""
        if not self.gateway:
            return GraderLink.BROKER
        return GraderLink.WEBSOCKET if self.over_socket else GraderLink.POLLING

    @property
    def state(self) -> GraderState:
        """Its state. A grader at the broker reports how it obeys; a gateway withholds jobs from one behind it."""
        if self.is_revoked:
            return GraderState.REVOKED
        if not self.alive:
            return GraderState.GONE
        mode = self.order.mode if self.gateway else GraderMode.ONLINE
        if self.draining or mode is GraderMode.DRAINING:
            return GraderState.DRAINING if self.running else GraderState.DRAINED
        return GraderState.PAUSED if self.paused or mode is GraderMode.PAUSED else GraderState.ONLINE

    @property
    def reason(self) -> str:
        """Why it is not online: its operator's words, or its own."""
        return self.order.reason or self.paused

    def was_seen_since(self, moment: datetime) -> bool:
        """Return whether it was heard of at or after a moment; True for one of which that is not stored."""
        return self.last_seen is None or self.last_seen >= moment

    def demand_admitted(self) -> None:
        """Return unless the grader has been revoked.

        Raises:
            RevokedError: It has been.
        """
        if self.is_revoked:
            raise RevokedError(f"grader {self.id} has been revoked")

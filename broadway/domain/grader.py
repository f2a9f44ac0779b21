"""Stored graders: their orders, states, and links to the cluster. Pure."""

from dataclasses import dataclass, field
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
    """The way by which jobs reach a grader."""

    BROKER = "broker"
    WEBSOCKET = "websocket"
    POLLING = "polling"


class RevokedError(Exception):
    """The grader has been revoked: it gets no jobs and may not join."""


@dataclass(frozen=True, slots=True)
class StandingOrder:
    """All that an operator has ordered of a grader. Each change raises ``revision``; the highest one applies.

    ``slots`` is None while the grader's own setting applies.
    """

    revision: int = 0
    mode: GraderMode = GraderMode.ONLINE
    slots: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Grader:
    """A grader that has joined, registered, sent a heartbeat, or received an order.

    Args:
        id: The grader's id.
        hostname: Its host.
        pool: The pool whose jobs it takes.
        slots: The number of jobs that it runs at a time at present, 0 while paused; None if it never reported one.
        own_slots: The number of slots that it was started with; None if it has not joined.
        alive: True while it counts as alive.
        left: True after its goodbye.
        last_seen: The time of its last sign of life, by the control plane's clock; None without one.
        sent_at: The time of its last heartbeat, by its own clock.
        joined_at: The time of its last join.
        registered_at: The time of its last registration with a gateway, or the start of the oldest job that it resumed
            then; for any other grader, the time of its last sign of life.
        gateway: The API process that it registered with; empty for a grader at the broker.
        session: The id of that registration.
        over_socket: True if it registered over a WebSocket.
        extended: True if it understands our additions to the original's protocol.
        abilities: The features of stages that it has beyond those of the first version.
        runtime: The runtime of its containers; empty if it does not report one.
        paused: The reason for taking no jobs; empty while it takes jobs.
        draining: True while it finishes its jobs and takes no others.
        reported_jobs: Ids of the jobs that it reported last or was handed since.
        jobs_processed: The number of jobs that it has started.
        broker_user: Its own user at the broker.
        order: Its operator's standing order.
        obeyed: The revision of the order that it followed at its last heartbeat; None if it never reported one.
        secret: The hash of its own secret; None if it never had one, empty if its operator had it forgotten.
        pools: The pools that it may join, by the token of its first join; None for all pools.
        join_token: The id of the join token of its first join; empty if that was the cluster token.
        grace_until: The time until which it needs no secret, since an earlier version, without secrets, admitted it.
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
    abilities: tuple[str, ...] = ()
    runtime: str = ""
    paused: str = ""
    draining: bool = False
    reported_jobs: tuple[str, ...] = ()
    jobs_processed: int = 0
    broker_user: str | None = None
    order: StandingOrder = StandingOrder()
    obeyed: int | None = None
    secret: str | None = field(default=None, repr=False)
    pools: tuple[str, ...] | None = None
    join_token: str = ""
    grace_until: datetime | None = None

    @property
    def has_secret(self) -> bool:
        """True if its requests need its own secret."""
        return bool(self.secret)

    @property
    def is_behind_gateway(self) -> bool:
        """True if it registered with a gateway, or with the original system."""
        return bool(self.gateway) or (self.slots is None and bool(self.hostname))

    @property
    def is_of_original(self) -> bool:
        """True if it is one of the original's graders, which never join and know none of our additions."""
        return self.is_behind_gateway and not self.extended and self.joined_at is None and not self.has_secret

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the jobs that it runs; a grader that is not alive runs none."""
        return self.reported_jobs if self.alive else ()

    @property
    def is_original(self) -> bool:
        """True if it is a grader of the original, behind a gateway or in the original's own store."""
        return not self.extended and (bool(self.gateway) or self.slots is None)

    @property
    def is_revoked(self) -> bool:
        """True if its operator has revoked it."""
        return self.order.mode is GraderMode.REVOKED

    @property
    def is_wanted(self) -> bool:
        """True if its operator lets it take jobs."""
        return self.order.mode is GraderMode.ONLINE

    @property
    def has_slots(self) -> bool:
        """True if it takes jobs, by its own report."""
        return self.slots is None or self.slots > 0

    @property
    def allowed_slots(self) -> int:
        """The number of jobs that it may run at a time: as ordered, or else as started."""
        return self.order.slots or self.own_slots or self.slots or 1

    def counted_slots(self, *, pool: str, reported: int) -> int | None:
        """Return how many of the slots that a heartbeat reports count; None if it speaks for a foreign pool.

        A grader that has never joined has got the broker's address from an operator, and is believed.
        """
        if self.own_slots is None and not self.gateway:
            return reported
        if pool != self.pool:
            return None
        return reported if self.gateway else min(reported, self.allowed_slots)

    @property
    def link(self) -> GraderLink:
        """The way by which jobs reach it."""
        if not self.gateway:
            return GraderLink.BROKER
        return GraderLink.WEBSOCKET if self.over_socket else GraderLink.POLLING

    @property
    def state(self) -> GraderState:
        """Its state. A grader at the broker reports its own mode; behind a gateway the ordered mode applies at once."""
        if self.is_revoked:
            return GraderState.REVOKED
        if not self.alive:
            return GraderState.GONE
        mode = self.order.mode if self.gateway else GraderMode.ONLINE
        if self.draining or mode is GraderMode.DRAINING:
            return GraderState.DRAINING if self.running else GraderState.DRAINED
        return GraderState.PAUSED if self.paused or mode is GraderMode.PAUSED else GraderState.ONLINE

    @property
    def has_paused_itself(self) -> bool:
        """True if it takes no jobs by its own decision; an order to resume that it has not heard yet is none."""
        has_heard = self.obeyed is None or self.obeyed >= self.order.revision
        return self.state is GraderState.PAUSED and self.is_wanted and has_heard

    @property
    def reason(self) -> str:
        """The reason for not being online: its operator's, or its own."""
        return self.order.reason or self.paused

    def was_seen_since(self, moment: datetime) -> bool:
        """Return whether it was seen at or after a moment; True for a grader without a stored time."""
        return self.last_seen is None or self.last_seen >= moment

    def may_join(self, pool: str) -> bool:
        """Return whether the token of its first join admits it to a pool."""
        return self.pools is None or pool in self.pools

    def has_grace(self, now: datetime) -> bool:
        """Return whether it may do without a secret at a moment, after an upgrade of the control plane."""
        return self.grace_until is not None and now < self.grace_until

    def demand_admitted(self) -> None:
        """Return unless the grader has been revoked.

        Raises:
            RevokedError: The grader has been revoked.
        """
        if self.is_revoked:
            raise RevokedError(f"grader {self.id} has been revoked")

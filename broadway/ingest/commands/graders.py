"""Joins of graders, and their operators' orders."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from broadway.domain.grader import MAX_SLOTS, Grader, GraderMode, RevokedError, StandingOrder
from broadway.ingest.commands.admission import Admission, Candidate, revoked
from broadway.lifecycle.announce import Announcements
from broadway.lifecycle.follow_ups import ordered
from broadway.lifecycle.stores import GradersById
from broadway.management import ManagementError
from broadway.messages.topology import ready_queue
from broadway.ports import Publisher, PublishError
from broadway.settings.programs import IngestSettings

log = structlog.get_logger(__name__)

NO_SUCH_GRADER = "no grader of that id has ever joined"


class NoGraderError(LookupError):
    """No grader of that id has ever joined."""


class GraderOrderError(Exception):
    """An order that does not fit the grader's present state; the text gives the reason."""


class BrokerUsersUnavailableError(Exception):
    """The broker or its management API is unavailable; the client may repeat the request later."""


class JoiningGraders(GradersById, Protocol):
    """The operations on stored graders that joining needs."""

    async def join(self, grader_id: str, *, hostname: str, pool: str, slots: int, now: datetime) -> StandingOrder:
        """Store a grader's join, the first or a later one; return its standing order."""


class OrderedGraders(GradersById, Protocol):
    """The operations on stored graders that orders need."""

    async def set_mode(
        self, grader_id: str, mode: GraderMode, reason: str, *, is_revoked: bool = False
    ) -> Grader | None:
        """Order a mode of a grader whose revocation is ``is_revoked``; return it as changed, or None without one."""

    async def set_slots(self, grader_id: str, slots: int | None) -> Grader | None:
        """Order the slots of a grader unless it is revoked; return it as changed, or None."""

    async def revoke(self, grader_id: str, reason: str) -> Grader:
        """Revoke a grader, even one that has never joined; return it as changed."""

    async def forget_secret(self, grader_id: str) -> Grader | None:
        """Forget a grader's secret; return the grader, or None."""


class BrokerUsers(Protocol):
    """Graders' own users at the broker."""

    async def open(self, grader_id: str, *, pool: str, slots: int) -> str:
        """Create a grader's user, or give it a new password; return the broker's address with both.

        Raises:
            ManagementError: The management API refuses, or is unavailable.
        """

    async def limit(self, grader_id: str, slots: int) -> None:
        """Limit a grader's user to the channels that this number of slots may need.

        Raises:
            ManagementError: The management API refuses, or is unavailable.
        """

    async def close(self, grader_id: str) -> None:
        """Remove a grader's user, if it has one; that ends its connections.

        Raises:
            ManagementError: The management API refuses, or is unavailable.
        """


class RevokedSessions(Protocol):
    """Sessions that end when their grader is revoked."""

    async def revoke(self, grader_id: str) -> None:
        """End every session of a grader: its jobs start elsewhere, and their starts do not count."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A grader's standing order, and the broker's address.

    ``amqp_url`` is None if graders may not connect to the broker. ``own_user``: each grader has its own user there.
    ``own_secret``: the grader has a secret, which its requests need from now on.
    """

    order: StandingOrder
    amqp_url: str | None
    own_user: bool
    own_secret: bool


@dataclass(frozen=True, slots=True)
class GraderJoins:
    """Admits graders to the cluster.

    Args:
        admission: The check of their credentials.
        graders: The stored graders.
        broker: The broker, where the queues of pools are declared.
        users: Graders' own users at the broker; None if all graders share a login.
        settings: The broker's address, and whether graders may connect to it.
    """

    admission: Admission
    graders: JoiningGraders
    broker: Publisher
    users: BrokerUsers | None
    settings: IngestSettings

    async def join(
        self, candidate: Candidate, *, hostname: str, pool: str, slots: int, needs_broker: bool = True
    ) -> Joined:
        """Store a grader's join, and give it access to the broker if it needs that.

        Raises:
            AdmissionError: The candidate's credentials do not admit it.
            RevokedError: The grader has been revoked.
            BrokerUsersUnavailableError: The grader's user at the broker cannot be created now.
        """
        own_secret, grader_id = await self.admission.admit(candidate, pool), candidate.id
        order = await self.graders.join(grader_id, hostname=hostname, pool=pool, slots=slots, now=datetime.now(UTC))
        if order.mode is GraderMode.REVOKED:
            raise RevokedError(revoked(grader_id))
        address = await self._address(grader_id, pool=pool, slots=order.slots or slots) if needs_broker else None
        await self._refuse_revoked(grader_id)
        return Joined(order, address, own_user=self.users is not None, own_secret=own_secret)

    async def _address(self, grader_id: str, *, pool: str, slots: int) -> str | None:
        """Return the broker's address for a grader, with its own login if graders have broker users."""
        if not self.settings.offer_amqp:
            return None
        if self.users is None:
            return (self.settings.grader_amqp_url or self.settings.amqp_url).get_secret_value()
        try:
            await self.broker.declare(ready_queue(pool))  # graders have no permission for this
            return await self.users.open(grader_id, pool=pool, slots=slots)
        except (ManagementError, PublishError) as error:
            log.warning("grader cannot join now", grader=grader_id, reason=str(error))
            raise BrokerUsersUnavailableError("the broker or its management API is unavailable") from error

    async def _refuse_revoked(self, grader_id: str) -> None:
        """Remove the new user of a grader that was revoked meanwhile: the revocation may not have found that user."""
        grader = await self.graders.get(grader_id)
        if grader is None or not grader.is_revoked:
            return
        if self.users:
            try:
                await self.users.close(grader_id)
            except ManagementError as error:
                log.warning("broker user not removed yet", grader=grader_id, reason=str(error))
        raise RevokedError(revoked(grader_id))


@dataclass(frozen=True, slots=True)
class GraderOrders:
    """Stores and publishes orders to graders. A grader that misses an order gets it again after its next heartbeat.

    ``users`` is None if all graders share a login at the broker.
    """

    graders: OrderedGraders
    announcements: Announcements
    users: BrokerUsers | None
    sessions: RevokedSessions

    async def set_mode(self, grader_id: str, mode: GraderMode, reason: str) -> Grader:
        """Order a grader to take jobs, to pause, or to drain; return it as stored then.

        Raises:
            NoGraderError: There is no such grader.
            GraderOrderError: The grader has been revoked.
        """
        grader = await self.graders.set_mode(grader_id, mode, reason)
        return self._publish(await self._accepted(grader, grader_id))

    async def set_slots(self, grader_id: str, slots: int | None) -> Grader:
        """Order the number of jobs that a grader runs at a time, None for its own setting; return it as stored then.

        Raises:
            NoGraderError: There is no such grader.
            GraderOrderError: The grader has been revoked.
            BrokerUsersUnavailableError: The order is stored, but the grader's channel limit could not be changed yet.
        """
        grader = await self._accepted(await self.graders.set_slots(grader_id, slots), grader_id)
        if self.users and grader.broker_user:
            try:
                await self.users.limit(grader.id, slots or grader.own_slots or MAX_SLOTS)
            except ManagementError as error:
                text = f"the broker's management API is unavailable: try again ({error})"
                raise BrokerUsersUnavailableError(text) from error
        return self._publish(grader)

    async def revoke(self, grader_id: str, reason: str) -> Grader:
        """Revoke a grader, known or not: remove its user at the broker and give its jobs to other graders.

        Raises:
            BrokerUsersUnavailableError: The order is stored, but the user could not be removed yet.
        """
        grader = await self.graders.revoke(grader_id, reason)
        log.warning("grader revoked", grader=grader_id, reason=reason)
        self._publish(grader)
        if self.users:
            try:
                await self.users.close(grader_id)
            except ManagementError as error:
                log.warning("broker user not removed yet", grader=grader_id, reason=str(error))
                text = "revoked, but its user at the broker could not be removed yet: try again"
                raise BrokerUsersUnavailableError(text) from error
        await self.sessions.revoke(grader_id)
        return grader

    async def readmit(self, grader_id: str) -> Grader:
        """Let a revoked grader join again; return it as stored then.

        Raises:
            NoGraderError: There is no such grader.
            GraderOrderError: The grader is not revoked.
        """
        grader = await self.graders.set_mode(grader_id, GraderMode.ONLINE, "", is_revoked=True)
        return self._publish(await self._accepted(grader, grader_id, refusal="the grader is not revoked"))

    async def forget_secret(self, grader_id: str) -> Grader:
        """Forget a grader's secret: its next join stores a new one, with a token as at its first join.

        Raises:
            NoGraderError: There is no such grader.
        """
        grader = await self.graders.forget_secret(grader_id)
        if grader is None:
            raise NoGraderError(NO_SUCH_GRADER)
        log.warning("secret of a grader forgotten", grader=grader_id)
        return grader

    async def _accepted(self, grader: Grader | None, grader_id: str, *, refusal: str | None = None) -> Grader:
        """Return the grader that an order has changed, or raise the error of an order that changed no grader."""
        if grader is not None:
            return grader
        if await self.graders.get(grader_id) is None:
            raise NoGraderError(NO_SUCH_GRADER)
        readmit_first = f"the grader has been revoked; `broadway grader readmit {grader_id}` lets it in again"
        raise GraderOrderError(refusal or readmit_first)

    def _publish(self, grader: Grader) -> Grader:
        self.announcements.facts([ordered(grader.id, grader.order)])
        return grader

"""Graders' own users at the broker: created with the fewest permissions at a grader's join, and removed later."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe
from typing import Protocol

import structlog
from yarl import URL

from broadway.management import Management, ManagementError, virtual_host
from broadway.messages.topology import Grants, control_queue, grader_grants, grader_user
from broadway.ports import StoreError
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

SWEEP_INTERVAL = 30  # seconds between two searches for unneeded users
LEFT_FOR = timedelta(minutes=1)  # after a goodbye; a restarted grader has joined again by then
GONE_FOR = timedelta(hours=1)  # without a goodbye; a grader that comes back later must join again

MAX_CONNECTIONS = 6  # 2 in use, 2 whose end the broker has not noticed, and 2 that only test the login
SPARE_CHANNELS = 32  # besides those of slots: for commands, publishing and checks of queues


class AccountHolders(Protocol):
    """The operations on stored graders that their users at the broker need."""

    async def set_account(self, grader_id: str, user: str | None) -> None:
        """Store the name of a grader's user, or that it has none."""

    async def with_unneeded_accounts(self, *, left_before: datetime, gone_before: datetime) -> list[str]:
        """Return ids of graders whose users are unneeded.

        These graders have been revoked, or joined last before ``left_before`` and have said goodbye since, or joined
        and were seen last before ``gone_before``.
        """


@dataclass(frozen=True, slots=True)
class BrokerAccounts:
    """Users of graders in one virtual host.

    Args:
        management: The broker's management API, as an administrator.
        graders: The stored graders, with the names of their users.
        address: The broker's address for graders; its login, if any, is replaced by the grader's own.
    """

    management: Management
    graders: AccountHolders
    address: str

    async def open(self, grader_id: str, *, pool: str, slots: int) -> str:
        """Create a grader's user, or give its user a new password; return the broker's address with both.

        The password is not stored.

        Raises:
            ManagementError: The management API refuses, or is unavailable.
        """
        user, password = grader_user(grader_id), token_urlsafe(32)
        await self.graders.set_account(grader_id, user)  # first, so that the sweep can find and remove the user
        await self.management.put("users", user, body={"password": password, "tags": ""})
        await self.limit(grader_id, slots)
        await self._grant(user, grader_grants(grader_id, pool))
        return str(URL(self.address).with_user(user).with_password(password))

    async def limit(self, grader_id: str, slots: int) -> None:
        """Limit a grader's user to a few connections, and to the channels that this number of slots may need.

        Raises:
            ManagementError: The management API refuses, or is unavailable.
        """
        limits = {"max-connections": MAX_CONNECTIONS, "max-channels": slots + SPARE_CHANNELS}
        for limit, value in limits.items():
            await self.management.put("user-limits", grader_user(grader_id), limit, body={"value": value})

    async def close(self, grader_id: str) -> None:
        """Remove a grader's user, which ends its connections, and its control queue.

        Raises:
            ManagementError: The management API refuses, or is unavailable.
        """
        await self.management.delete("users", grader_user(grader_id))
        vhost = virtual_host(self.address)
        with contextlib.suppress(ManagementError):  # the queue is exclusive, and ends with its connection
            await self.management.delete("queues", vhost, control_queue(grader_id).name)
        await self.graders.set_account(grader_id, None)
        log.info("broker user removed", grader=grader_id)

    async def run(self) -> None:
        """Remove unneeded users regularly, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            with isolated("accounts"):
                await self._sweep_if_possible()

    async def _sweep_if_possible(self) -> None:
        try:
            await self.sweep(datetime.now(UTC))
        except (ManagementError, StoreError) as error:
            log.warning("users of graders not looked after", reason=str(error))

    async def sweep(self, now: datetime) -> None:
        """Remove the users that are unneeded at a moment."""
        for grader_id in await self.graders.with_unneeded_accounts(
            left_before=now - LEFT_FOR, gone_before=now - GONE_FOR
        ):
            await self.close(grader_id)

    async def _grant(self, user: str, grants: Grants) -> None:
        vhost = virtual_host(self.address)
        allowed = {"configure": grants.configure, "write": grants.write, "read": grants.read}
        await self.management.put("permissions", vhost, user, body=allowed)
        for exchange, (write, read) in grants.keys.items():
            keys = {"exchange": exchange, "write": write, "read": read}
            await self.management.put("topic-permissions", vhost, user, body=keys)

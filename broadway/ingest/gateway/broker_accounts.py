"""Graders' own users at the broker: made when a grader joins, with the least permissions, and removed with it."""

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

log = structlog.get_logger(__name__)

SWEEP_INTERVAL = 30  # seconds between two looks for users that nobody needs
LEFT_FOR = timedelta(minutes=1)  # after a goodbye: a grader that is restarted has joined again by then
GONE_FOR = timedelta(hours=1)  # without one: its host may come back, and has to join again after that

MAX_CONNECTIONS = 6  # two; two whose end the broker has not noticed; two that try whether it lets them in
SPARE_CHANNELS = 32  # besides those of slots: for commands and publishing, and to see what queues there are


class AccountHolders(Protocol):
    """The operations on stored graders that their users at the broker need."""

    async def set_account(self, grader_id: str, user: str | None) -> None:
        """Store the name of a grader's user, or that it has none."""

    async def with_unneeded_accounts(self, *, left_before: datetime, gone_before: datetime) -> list[str]:
        """Return ids of graders with users that are unneeded.

        These graders have been revoked, have joined last before ``left_before`` and said goodbye since, or have joined
        and been heard of last before ``gone_before``.
        """


@dataclass(frozen=True, slots=True)
class BrokerAccounts:
    """Users of graders in one virtual host.

    Args:
        management: The broker's management API, as an administrator.
        graders: The stored graders, with the names of their users.
        address: The broker, as graders reach it; with whatever login, which they are not told.
    """

    management: Management
    graders: AccountHolders
    address: str

    async def open(self, grader_id: str, *, pool: str, slots: int) -> str:
        """Make a grader's user, or give the one it has a new password; the address with both, told here alone.

        Raises:
            ManagementError: The management API refuses or is away.
        """
        user, password = grader_user(grader_id), token_urlsafe(32)
        await self.graders.set_account(grader_id, user)  # before there is one, so that it is found to be removed
        await self.management.put("users", user, body={"password": password, "tags": ""})
        await self.limit(grader_id, slots)
        await self._grant(user, grader_grants(grader_id, pool))
        return str(URL(self.address).with_user(user).with_password(password))

    async def limit(self, grader_id: str, slots: int) -> None:
        """Let a grader have as many channels as it may need for so many slots, and a few connections."""
        limits = {"max-connections": MAX_CONNECTIONS, "max-channels": slots + SPARE_CHANNELS}
        for limit, value in limits.items():
            await self.management.put("user-limits", grader_user(grader_id), limit, body={"value": value})

    async def close(self, grader_id: str) -> None:
        """Remove a grader's user, which ends its connections, and what it may have left at the broker."""
        await self.management.delete("users", grader_user(grader_id))
        vhost = virtual_host(self.address)
        with contextlib.suppress(ManagementError):  # it is exclusive, and goes with its connection
            await self.management.delete("queues", vhost, control_queue(grader_id).name)
        await self.graders.set_account(grader_id, None)
        log.info("broker user removed", grader=grader_id)

    async def run(self) -> None:
        """Remove the users of graders that are gone, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                await self.sweep(datetime.now(UTC))
            except (ManagementError, StoreError) as error:
                log.warning("users of graders not looked after", reason=str(error))

    async def sweep(self, now: datetime) -> None:
        """Remove the users that nobody needs at a moment."""
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

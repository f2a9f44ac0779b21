"""Forgetting graders that never come back, so that lists show those that exist."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from broadway.domain.grader import Grader
from broadway.domain.job import Job
from broadway.ingest.commands.graders import (
    NO_SUCH_GRADER,
    BrokerUsers,
    BrokerUsersUnavailableError,
    GraderOrderError,
    NoGraderError,
)
from broadway.management import ManagementError
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)


class ForgettableGraders(Protocol):
    """The operations on stored graders that forgetting needs."""

    async def get(self, grader_id: str) -> Grader | None:
        """Return a grader, or None."""

    async def forget(self, grader_id: str, *, joined_at: datetime | None) -> bool:
        """Remove a grader that is not alive, not revoked, and has not joined since; return whether it was removed."""


class HeldJobs(Protocol):
    """Jobs by the grader that runs them."""

    async def held_by(self, grader_id: str) -> list[Job]:
        """Return the jobs that run on a grader."""


@dataclass(frozen=True, slots=True)
class ForgottenGraders:
    """Removes graders from the store. ``users`` is None if all graders share a login at the broker."""

    graders: ForgettableGraders
    jobs: HeldJobs
    users: BrokerUsers | None

    async def forget(self, grader_id: str) -> None:
        """Remove a grader that is gone, with its standing order, its secret and its user at the broker.

        Its user goes first: if this process dies then, the grader is still listed and can be forgotten again. A grader
        that joins meanwhile stays, and joins once more for a new user.

        Raises:
            NoGraderError: There is no such grader.
            GraderOrderError: The grader is alive, revoked, or still counts as running jobs.
            BrokerUsersUnavailableError: Its user could not be removed, and nothing has changed.
        """
        grader = await self.graders.get(grader_id)
        if grader is None:
            raise NoGraderError(NO_SUCH_GRADER)
        await self._demand_gone(grader)
        if self.users and grader.broker_user:
            try:
                await self.users.close(grader_id)
            except ManagementError as error:
                text = f"the broker's management API is unavailable: try again ({error})"
                raise BrokerUsersUnavailableError(text) from error
        await reach(Point.FORGET_USER_CLOSED)
        if not await self.graders.forget(grader_id, joined_at=grader.joined_at):
            raise GraderOrderError("the grader has come back meanwhile: stop it first")
        log.warning("grader forgotten", grader=grader_id)

    async def _demand_gone(self, grader: Grader) -> None:
        if grader.is_revoked:
            readmit = f"`broadway grader readmit {grader.id}` first"
            raise GraderOrderError(f"the grader is revoked, and could join again once it is forgotten: {readmit}")
        if grader.alive:
            raise GraderOrderError(
                "the grader is alive: stop it first; one that vanished counts as gone within a minute"
            )
        if held := await self.jobs.held_by(grader.id):
            raise GraderOrderError(f"{len(held)} of its jobs are not repeated yet: try again in a minute")

"""The operations on stored data that use cases of ingest need."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from broadway.domain.hand_in import Ruling
from broadway.domain.run import PlannedJob
from broadway.domain.webhook import Delivery, Hook, Quota
from broadway.lifecycle.steps import PhaseJobs
from broadway.lifecycle.stores import AssignmentConfigs


class AssignmentRegistry(AssignmentConfigs, Protocol):
    """The configs of assignments, which can be replaced."""

    async def count(self, course: str) -> int:
        """Return the number of a course's assignments."""

    async def put(self, course: str, assignment: str, config: dict[str, Any]) -> None:
        """Store a config; it replaces an earlier one completely.

        Raises:
            UnstorableError: The config is too large; the earlier one stays.
        """


class SubmittedJobs(PhaseJobs, Protocol):
    """The operations on stored jobs that submitting needs."""

    def check(self, planned: Sequence[PlannedJob]) -> None:
        """Return if the store can hold every job.

        Raises:
            UnstorableError: A job is too large.
        """


class RecentHooks(Protocol):
    """Hooks, which may be a second behind the store."""

    async def recent(self, course: str, name: str) -> Hook | None:
        """Return a hook, or None."""


class DeliveryStore(Protocol):
    """Webhook deliveries."""

    async def keep(self, delivery: Delivery) -> tuple[Delivery, bool]:
        """Store a delivery, or count another arrival of a stored one; return it as stored, and True if it is new.

        Raises:
            UnstorableError: The delivery is too large; nothing is stored.
        """

    async def move(self, delivery: Delivery, **changes: Any) -> tuple[Delivery, bool]:
        """Change a delivery unless it has changed since it was read; return it as stored, and True if this call did."""

    async def keep_latest(self, course: str, hook: str, number: int) -> int:
        """Remove a hook's decided deliveries that are not among its latest ones; return how many were removed."""

    async def of_student(self, course: str, assignment: str, student: str) -> list[Delivery]:
        """Return a student's accepted deliveries, in the order of their first arrival."""


class HandInRules(Protocol):
    """The rules by which submissions are taken."""

    async def ruling(self, course: str, assignment: str, name: str, at: datetime, identity: str = "") -> Ruling:
        """Return the decision on a submission of a student or a group, by its first receipt and its id."""


class UndecidedStore(Protocol):
    """Deliveries that are not decided. Each is leased to a process until it is due."""

    async def undecided(self, now: datetime, *, limit: int, without: Sequence[str] = ()) -> list[Delivery]:
        """Return deliveries whose decision is due, the earliest due first, except those of some courses."""

    async def claim(self, delivery: Delivery, *, before: datetime, until: datetime) -> bool:
        """Make a delivery due at ``until``; return False if it is not due before ``before``, or has changed."""


class Quotas(Protocol):
    """Counts of recent submissions."""

    async def take(self, key: str, submission: str, quota: Quota, now: datetime) -> datetime | None:
        """Count a submission once; return None, or the time of the next free place if the quota is used up."""

"""The promises of stored regrades and of their parts."""

from collections.abc import Sequence
from typing import Protocol

from broadway.domain.regrade import Part, Regrade


class RegradeQueries(Protocol):
    """Queries on regrades."""

    async def get(self, course: str, identity: str) -> Regrade | None:
        """Return a regrade of a course, or None."""

    async def latest(self, course: str, assignment: str, *, before: str | None, limit: int) -> list[Regrade]:
        """Return the regrades of an assignment without their configs, latest first.

        Raises:
            CursorError: ``before`` is not a cursor.
        """

    async def parts(self, regrade: Regrade) -> list[Part]:
        """Return the parts of a regrade's plans, in the order of the plans."""

    async def parts_by_id(self, identities: Sequence[str]) -> list[Part]:
        """Return parts by their ids, in the order of the ids; unknown ids are left out."""


class RegradeStore(RegradeQueries, Protocol):
    """Stored regrades, which change by conditional updates. Parts are only inserted."""

    async def add(self, regrade: Regrade) -> bool:
        """Store a regrade; return False if its id is taken.

        Raises:
            UnstorableError: It is too large for the store.
        """

    async def move(self, after: Regrade) -> bool:
        """Store the next revision of a regrade; return False if the stored one is not the one before it."""

    async def put_parts(self, parts: Sequence[Part]) -> None:
        """Store parts; one that is stored already stays as it is."""

    async def tidy(self, regrade: Regrade) -> None:
        """Remove the parts of plans that the regrade does not have."""

    async def active(self, *, after: str, limit: int) -> list[Regrade]:
        """Return regrades for which a process has something to do, now or later, by id; those after an id."""

    async def count_active(self, course: str) -> int:
        """Return the number of a course's regrades for which a process has something to do."""

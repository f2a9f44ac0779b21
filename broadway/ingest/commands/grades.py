"""Changes of grades: publishing a version of a grade book, taking it back, and adjusting a student's grade."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from broadway.domain.grade_book import AdjustmentKind, BookEntry, MadeFrom, Published, StoredAdjustment, Version
from broadway.lifecycle.grade_books import BookStore


class BookMovedError(Exception):
    """Another version than the expected one is published: ``present``, or None if nothing is."""

    def __init__(self, present: Published | None) -> None:
        number = present.version if present else 0
        super().__init__(f"version {number} is published now; look at it, and publish again based on it")
        self.present = present


class NoVersionError(LookupError):
    """The grade book has no such version."""


class NoAdjustmentError(LookupError):
    """The assignment has no such adjustment in force."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A new version of a grade book, with the entries of all its students.

    ``based_on`` is the published version that it replaces, 0 if nothing is published. ``key`` is the request's
    idempotency key. The other fields are those of ``Version``.
    """

    entries: Sequence[BookEntry]
    based_on: int
    made_from: MadeFrom = MadeFrom.DRAFT
    settings_version: int = 0
    by: str = ""
    reason: str = ""
    note: str = ""
    source: str = ""
    configs: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Undo:
    """The order to publish the entries of an earlier version again; ``to`` is None for the one before ``based_on``."""

    based_on: int
    to: int | None = None
    by: str = ""
    reason: str = ""
    note: str = ""
    key: str | None = None


@dataclass(frozen=True, slots=True)
class AdjustmentOrder:
    """A change to a student's grade; ``points`` is None if the student is excused."""

    student: str
    kind: AdjustmentKind
    points: Decimal | None
    reason: str
    by: str = ""
    key: str | None = None


class Adjustments(Protocol):
    """Stored adjustments of assignments. They are only inserted."""

    async def of_assignment(self, course: str, assignment: str) -> list[StoredAdjustment]:
        """Return all adjustments, withdrawn ones too, in the order of their numbers."""

    async def add(self, course: str, assignment: str, adjustment: StoredAdjustment) -> bool:
        """Store an adjustment; return False if its id is taken."""

    async def withdraw(self, course: str, assignment: str, adjustment: StoredAdjustment) -> bool:
        """Store the withdrawal that an adjustment has; return False if it is withdrawn already."""


@dataclass(frozen=True, slots=True)
class GradeChanges:
    """Changes of the grades of any course."""

    books: BookStore
    adjustments: Adjustments

    async def publish(self, course: str, assignment: str, publication: Publication) -> Version:
        """Publish entries as a new version: students see it from then on.

        A repetition with the same key returns the version of the first call, or continues with it after a crash.

        Raises:
            BookMovedError: Another version than ``based_on`` is published; nothing that students see has changed.
            KeyReusedError: Another publication had that key.
        """
        raise NotImplementedError

    async def undo(self, course: str, assignment: str, order: Undo) -> Version:
        """Publish the entries of an earlier version as a new one.

        Raises:
            NoVersionError: There is no such earlier version.
            BookMovedError: As ``publish``.
            KeyReusedError: As ``publish``.
        """
        raise NotImplementedError

    async def adjust(self, course: str, assignment: str, order: AdjustmentOrder) -> StoredAdjustment:
        """Store an adjustment. It changes the draft; students see it after the next publication."""
        raise NotImplementedError

    async def withdraw(
        self, course: str, assignment: str, identity: str, *, by: str, reason: str = ""
    ) -> StoredAdjustment:
        """Withdraw an adjustment.

        Raises:
            NoAdjustmentError: There is no such adjustment, or it is withdrawn.
        """
        raise NotImplementedError

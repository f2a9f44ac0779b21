"""Reads of grades: the draft of the moment, and the versions of grade books."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from broadway.domain.grade_book import BookEntry, Published, Version
from broadway.domain.pages import Slice
from broadway.lifecycle.grade_books import BookQueries


@dataclass(frozen=True, slots=True)
class Draft:
    """The grades that the policy gives at a moment, in the order of students. It is never stored.

    ``published`` is the version that a publication of this draft is based on, 0 if there is none.
    """

    entries: Sequence[BookEntry]
    at: datetime
    published: int = 0
    settings_version: int = 0
    configs: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    _by_student: dict[str, BookEntry] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Book:
    """A version with all its entries, in the order of students."""

    version: Version
    entries: Sequence[BookEntry]


@dataclass(frozen=True, slots=True)
class BookedEntry:
    """A student's entry in a version. ``entry`` is None if the version has no such student."""

    version: Version
    entry: BookEntry | None


@dataclass(frozen=True, slots=True)
class GradeReads:
    """Reads of the grades of any course."""

    books: BookQueries

    async def draft(self, course: str, assignment: str) -> Draft:
        """Return the draft of an assignment: all students of its roster, and those who have submitted."""
        raise NotImplementedError

    async def draft_of(self, course: str, assignment: str, student: str) -> BookEntry | None:
        """Return one student's entry of the draft; None if the assignment has no such student."""
        raise NotImplementedError

    async def pointer(self, course: str, assignment: str) -> Published | None:
        """Return the pointer to the published version, or None."""
        return await self.books.published(course, assignment)

    async def published(self, course: str, assignment: str) -> Book | None:
        """Return the published version with its entries, or None."""
        raise NotImplementedError

    async def version(self, course: str, assignment: str, number: int) -> Book | None:
        """Return a version that is or was published, with its entries, or None."""
        raise NotImplementedError

    async def published_entry(self, course: str, assignment: str, student: str) -> BookedEntry | None:
        """Return a student's entry of the published version; None if nothing is published."""
        raise NotImplementedError

    async def versions(self, course: str, assignment: str, *, after: int | None, limit: int) -> Slice[Version]:
        """Return a page of the versions that are or were published, latest first."""
        raise NotImplementedError

    async def charged_before(self, course: str, assignment: str) -> Mapping[str, int]:
        """Return the late days that a course's assignments with an earlier due time have charged, by student.

        Those of an assignment's published version count; its draft's if it has none. The draft subtracts them from the
        policy's days per course, so a ``Member`` may come with any number of ``late_days_left``.
        """
        raise NotImplementedError

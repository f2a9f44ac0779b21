"""The promises of the stored grade books, and the changes between two of their versions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from broadway.domain.grade_book import (
    BookEntry,
    Chunk,
    ChunkRef,
    Published,
    StoredAdjustment,
    Version,
    changed_students,
)

BATCH = 50  # versions read at a time


class PublishedBooks(Protocol):
    """The pointers to published versions."""

    async def published(self, course: str, assignment: str) -> Published | None:
        """Return the pointer to the published version, or None if nothing was ever published."""


class AdjustmentQueries(Protocol):
    """Queries on adjustments."""

    async def of_assignment(self, course: str, assignment: str) -> list[StoredAdjustment]:
        """Return all adjustments of an assignment, withdrawn ones too, in the order in which they were made."""


class BookQueries(PublishedBooks, Protocol):
    """Queries on grade books."""

    async def version(self, course: str, assignment: str, number: int) -> Version | None:
        """Return a version, or None."""

    async def of_request(self, course: str, assignment: str, key: str) -> Version | None:
        """Return the version whose request begins with a digest of its key, or None."""

    async def latest(self, course: str, assignment: str, *, before: int | None, limit: int) -> list[Version]:
        """Return versions, latest first; only those before ``before`` if it is given."""

    async def entries(self, chunks: Sequence[ChunkRef]) -> list[BookEntry]:
        """Return the entries of chunks, in the order of students.

        Raises:
            MissingContentError: The store does not have one of the chunks.
        """


class BookStore(BookQueries, Protocol):
    """Stored grade books. Chunks and versions are only inserted."""

    async def put_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Store chunks; one that is stored already stays as it is."""

    async def add(self, version: Version) -> bool:
        """Store a version; return False if its number is taken."""

    async def point(self, to: Published) -> bool:
        """Move the pointer to a version if it still points to ``to.before``, in one conditional update.

        Return False if it points elsewhere.
        """


class AnnouncedBooks(BookQueries, Protocol):
    """Pointers whose publication is still to be announced."""

    async def to_announce(self, *, limit: int) -> list[Published]:
        """Return pointers with ``announce_at`` in the past, the earliest first."""

    async def announced(self, published: Published) -> None:
        """Note that a version is announced, and clear ``announce_at`` unless the pointer has moved since."""


@dataclass(frozen=True, slots=True)
class Publications:
    """The publications that are to be announced: each one, also those that another one has replaced meanwhile."""

    books: AnnouncedBooks

    async def to_announce(self, *, limit: int) -> list[Published]:
        """Return publications of books that have some to announce, in the order of their versions."""
        found: list[Published] = []
        for pointer in await self.books.to_announce(limit=limit):
            found += await self._of_book(pointer)
        return found

    async def announced(self, published: Published) -> None:
        """Note that a publication is announced."""
        await self.books.announced(published)

    async def _of_book(self, pointer: Published) -> list[Published]:
        """Return the publications of a book since the last announced one, but no more than ``BATCH`` of them."""
        if pointer.announced is None or pointer.before <= pointer.announced:
            return [pointer]
        earlier = await history(self.books, pointer.course, pointer.assignment, before=pointer.version, limit=BATCH - 1)
        replaced = [
            replace(pointer, version=each.number, at=each.at, by=each.by, before=each.based_on, students=each.students)
            for each in reversed(earlier)
            if each.number > pointer.announced
        ]
        return [*replaced, pointer]


async def history(
    books: BookQueries, course: str, assignment: str, *, before: int | None = None, limit: int
) -> list[Version]:
    """Return the versions that are or were published, latest first; only those before ``before`` if it is given.

    A version is published by moving the pointer from the version on which it is based. So those that a crash or another
    publisher has left behind are not among the versions to which the published one leads.
    """
    pointer = await books.published(course, assignment)
    expected = pointer.version if pointer else 0
    found: list[Version] = []
    start = expected + 1
    while expected and len(found) < limit:
        batch = await books.latest(course, assignment, before=start, limit=BATCH)
        for version in batch:
            if version.number == expected:
                expected = version.based_on
                if before is None or version.number < before:
                    found.append(version)
        if not batch:
            break
        start = batch[-1].number
    return found[:limit]


async def published_version(books: BookQueries, course: str, assignment: str, number: int) -> Version | None:
    """Return a version that is or was published, or None."""
    found = await history(books, course, assignment, before=number + 1, limit=1)
    return found[0] if found and found[0].number == number else None


async def all_entries(books: BookQueries, version: Version | None) -> list[BookEntry]:
    """Return all entries of a version; none without a version."""
    return await books.entries(version.chunks) if version else []


async def changed_by(books: BookQueries, published: Published) -> list[str]:
    """Return the students whose grade a publication has changed, against the version published before it, in order.

    The chunks that both versions share are not read.
    """
    before = await books.version(published.course, published.assignment, published.before) if published.before else None
    after = await books.version(published.course, published.assignment, published.version)
    known, new = (set(each.chunks) if each else set() for each in (before, after))
    old = await books.entries([each for each in before.chunks if each not in new]) if before else []
    present = await books.entries([each for each in after.chunks if each not in known]) if after else []
    return changed_students({each.student: each for each in old}, {each.student: each for each in present})

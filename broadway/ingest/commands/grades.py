"""Changes of grade books: publishing a version, and taking it back."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from broadway.domain.grade_book import BookEntry, ChunkRef, Draft, MadeFrom, Published, Version, chunks_of
from broadway.ingest.commands.submit import KeyReusedError
from broadway.lifecycle.grade_books import BookStore, published_version
from broadway.runtime.clock import now
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.threads import beside

log = structlog.get_logger(__name__)

_REUSED = "Idempotency-Key: another publication had this key"
TRIES = 20  # of a number for a version, while others store theirs


class BookMovedError(Exception):
    """Another version than the expected one is published: ``present``, or None if nothing is."""

    def __init__(self, present: Published | None, expected: int) -> None:
        now_ = f"version {present.version} is published" if present else "nothing is published"
        super().__init__(f"{now_}, not version {expected}; look at the grades again, and publish based on what you see")
        self.present = present


class NoVersionError(LookupError):
    """The grade book has no such version."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A new version of a grade book, with the entries of all its students.

    ``based_on`` is the published version that it replaces, 0 if nothing is published. ``key`` is the request's
    idempotency key, and ``choice`` what the request chooses beside the other fields: a repetition chooses the same. The
    other fields are those of ``Version``.
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
    choice: str = ""


@dataclass(frozen=True, slots=True)
class PublishOrder:
    """The order to publish the present draft."""

    based_on: int
    by: str = ""
    reason: str = ""
    note: str = ""
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Undo:
    """The order to publish the entries of an earlier version again.

    ``to`` is that version; None for the one before ``based_on``, and 0 for no grades, as before the first publication.
    """

    based_on: int
    to: int | None = None
    by: str = ""
    reason: str = ""
    note: str = ""
    key: str | None = None


class Drafts(Protocol):
    """Drafts of grades."""

    async def draft(self, course: str, assignment: str) -> Draft:
        """Return the draft of an assignment."""


@dataclass(frozen=True, slots=True)
class GradeChanges:
    """Changes of the grade books of any course.

    Publishing stores the entries, then a version with the next number, then moves the pointer from the version on which
    the new one is based. After a crash before the last step nothing has changed for students: a repetition with the
    same key continues, and any other publication takes the next number.
    """

    books: BookStore
    drafts: Drafts

    async def publish_draft(self, course: str, assignment: str, order: PublishOrder) -> Version:
        """Publish the present draft; a repetition with the same key returns the version of the first call.

        Raises:
            BookMovedError: Another version than ``based_on`` is published; nothing that students see has changed.
            KeyReusedError: Another publication had that key.
        """
        wanted = Publication((), order.based_on, by=order.by, reason=order.reason, note=order.note, key=order.key)
        if known := await self._repeated(course, assignment, wanted):
            return await self._point(known)
        await self._demand(course, assignment, order.based_on)
        draft = await self.drafts.draft(course, assignment)
        made = replace(
            wanted,
            entries=draft.entries,
            settings_version=draft.settings_version,
            configs=draft.configs,
            images=draft.images,
        )
        return await self._store(course, assignment, made)

    async def publish(self, course: str, assignment: str, publication: Publication) -> Version:
        """Publish given entries as a new version: students see it from then on.

        A repetition with the same key returns the version of the first call, or continues with it after a crash.

        Raises:
            BookMovedError: As ``publish_draft``.
            KeyReusedError: As ``publish_draft``.
        """
        if known := await self._repeated(course, assignment, publication):
            return await self._point(known)
        await self._demand(course, assignment, publication.based_on)
        return await self._store(course, assignment, publication)

    async def undo(self, course: str, assignment: str, order: Undo) -> Version:
        """Publish the entries of an earlier version as a new one, which costs one document.

        Raises:
            NoVersionError: There is no such earlier version.
            BookMovedError: As ``publish_draft``.
            KeyReusedError: As ``publish_draft``.
        """
        wanted = Publication(
            entries=(),
            based_on=order.based_on,
            made_from=MadeFrom.UNDO,
            by=order.by,
            reason=order.reason,
            note=order.note,
            key=order.key,
            choice="" if order.to is None else str(order.to),
        )
        if known := await self._repeated(course, assignment, wanted):
            return await self._point(known)
        await self._demand(course, assignment, order.based_on)
        replaced = await self.books.version(course, assignment, order.based_on)
        if replaced is None:
            raise NoVersionError("nothing is published, so there is nothing to undo")
        number = replaced.based_on if order.to is None else order.to
        earlier = await published_version(self.books, course, assignment, number) if number else None
        if number and (earlier is None or number == order.based_on):
            raise NoVersionError(f"to: version {number} is not an earlier published version")
        made = replace(
            wanted,
            settings_version=earlier.settings_version if earlier else 0,
            source=str(number),
            configs=earlier.configs if earlier else (),
            images=earlier.images if earlier else (),
        )
        return await self._add_and_point(course, assignment, made, earlier.chunks if earlier else ())

    async def _demand(self, course: str, assignment: str, based_on: int) -> None:
        pointer = await self.books.published(course, assignment)
        if (pointer.version if pointer else 0) != based_on:
            raise BookMovedError(pointer, based_on)

    async def _store(self, course: str, assignment: str, publication: Publication) -> Version:
        chunks = await beside(len(publication.entries), chunks_of, publication.entries)
        await self.books.put_chunks(chunks)
        await reach(Point.GRADES_ENTRIES_STORED)
        return await self._add_and_point(course, assignment, publication, tuple(each.ref for each in chunks))

    async def _add_and_point(
        self, course: str, assignment: str, publication: Publication, chunks: tuple[ChunkRef, ...]
    ) -> Version:
        version = Version(
            course=course,
            assignment=assignment,
            number=0,
            based_on=publication.based_on,
            made_from=publication.made_from,
            chunks=chunks,
            settings_version=publication.settings_version,
            at=now(),
            by=publication.by,
            reason=publication.reason,
            note=publication.note,
            source=publication.source,
            configs=publication.configs,
            images=publication.images,
            request=_request_of(publication),
        )
        stored = await self._add(version)
        await reach(Point.GRADES_VERSION_STORED)
        return await self._point(stored)

    async def _add(self, version: Version) -> Version:
        """Store a version with the next number; return it."""
        for _ in range(TRIES):
            last = await self.books.latest(version.course, version.assignment, before=None, limit=1)
            numbered = replace(version, number=last[0].number + 1 if last else 1)
            if await self.books.add(numbered):
                return numbered
            await self._demand(version.course, version.assignment, version.based_on)
        raise BookMovedError(await self.books.published(version.course, version.assignment), version.based_on)

    async def _point(self, version: Version) -> Version:
        """Move the pointer to a stored version, unless that was done before; return the version."""
        to = Published(
            course=version.course,
            assignment=version.assignment,
            version=version.number,
            at=version.at,
            by=version.by,
            before=version.based_on,
            students=version.students,
            announce_at=now(),
        )
        if await self.books.point(to):
            await reach(Point.GRADES_POINTER_MOVED)
            log.info("grades published", course=version.course, assignment=version.assignment, version=version.number)
            return version
        if await published_version(self.books, version.course, version.assignment, version.number):
            return version
        raise BookMovedError(await self.books.published(version.course, version.assignment), version.based_on)

    async def _repeated(self, course: str, assignment: str, wanted: Publication) -> Version | None:
        """Return the version that an earlier request with the same key has stored, or None.

        Raises:
            KeyReusedError: That request was another one.
        """
        request = _request_of(wanted)
        if request is None:
            return None
        known = await self.books.of_request(course, assignment, _key_of(request))
        if known is not None and known.request != request:
            raise KeyReusedError(_REUSED)
        return known


def is_repeated(version: Version, publication: Publication) -> bool:
    """Return whether a version was published by an earlier request for the same publication.

    Raises:
        KeyReusedError: That request had the same key, and was another one.
    """
    request = _request_of(replace(publication, based_on=version.based_on))
    if version.request is None or request is None or not _has_key_of(version, request):
        return False
    if version.request != request:
        raise KeyReusedError(_REUSED)
    return True


def _has_key_of(version: Version, request: str) -> bool:
    return version.request is not None and _key_of(version.request) == _key_of(request)


def _key_of(request: str) -> str:
    """Return the digest of a request's key."""
    return request.partition(":")[0]


def _request_of(publication: Publication) -> str | None:
    """Return the digests of the key and of the order, so that repetitions are recognized; None without a key."""
    if publication.key is None:
        return None
    order: tuple[object, ...] = (
        *(publication.based_on, publication.made_from, publication.by, publication.reason, publication.note),
        *([publication.choice] if publication.choice else ()),
    )
    return ":".join(map(_digest, (publication.key, order)))


def _digest(part: object) -> str:
    return hashlib.sha256(repr(part).encode()).hexdigest()[:32]

"""The collections ``grade_entries``, ``grade_book`` and ``grade_book_published``: the grade books of assignments.

Entries and versions are only inserted. The pointer is moved by one conditional update.
"""

import zlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from broadway.domain.grade_book import (
    BookEntry,
    Chunk,
    ChunkRef,
    MadeFrom,
    Published,
    Version,
    entries_of,
)
from broadway.domain.parts import in_parts
from broadway.mongo.collection import Collection, Document, Documents, below, insert_each
from broadway.ports import MissingContentError

_DIGITS = 9  # of a version in an id, so that ids are in the order of versions
_INSERTS = 100  # chunks written at a time
_MAX_CHUNK = 64 * 1024 * 1024  # bytes of a chunk after decompression


class GradeBooks:
    """Grade books, with the ids ``<course>/<assignment>/<version>``, and ``<course>/<assignment>`` of pointers."""

    def __init__(self, entries: Collection, versions: Collection, published: Collection) -> None:
        self._entries = Documents(entries)
        self._versions = Documents(versions)
        self._published = Documents(published)

    async def ensure_indexes(self) -> None:
        await self._published.create_index("announce_at", name="to_announce")

    async def published(self, course: str, assignment: str) -> Published | None:
        """Return the pointer to the published version, or None if nothing was ever published."""
        found = await self._published.find_one({"_id": f"{course}/{assignment}"})
        return _pointer(found) if found else None

    async def version(self, course: str, assignment: str, number: int) -> Version | None:
        found = await self._versions.find_one({"_id": _id(course, assignment, number)})
        return _version(found) if found else None

    async def of_request(self, course: str, assignment: str, key: str) -> Version | None:
        """Return the version whose request begins with a digest of its key, or None."""
        begun = {"$gte": f"{key}:", "$lt": f"{key};"}  # ";" comes after ":"
        found = await self._versions.find_one(below(f"{course}/{assignment}") | {"request": begun})
        return _version(found) if found else None

    async def latest(self, course: str, assignment: str, *, before: int | None, limit: int) -> list[Version]:
        """Return versions, latest first; only those before ``before`` if it is given."""
        query = below(f"{course}/{assignment}")
        if before is not None:
            query["_id"]["$lt"] = _id(course, assignment, before)
        return [_version(each) for each in await self._versions.find(query, sort=[("_id", -1)], limit=limit)]

    async def entries(self, chunks: Sequence[ChunkRef]) -> list[BookEntry]:
        """Return the entries of chunks, in the order of the chunks.

        Raises:
            MissingContentError: The store does not have one of the chunks.
        """
        found = await self._entries.find_by_ids([each.digest for each in chunks])
        contents = {each["_id"]: each["content"] for each in found}
        if missing := next((each for each in chunks if each.digest not in contents), None):
            raise MissingContentError(f"entries of a grade book are not stored: {missing.digest}")
        return [entry for each in chunks for entry in entries_of(_unpacked(contents[each.digest]))]

    async def put_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Store chunks; one that is stored already stays as it is."""
        for part in in_parts(chunks, _INSERTS):
            some = {each.ref.digest: each.content for each in part}
            documents: list[Document] = [
                {"_id": digest, "content": zlib.compress(content)} for digest, content in some.items()
            ]
            await insert_each(self._entries, documents)

    async def add(self, version: Version) -> bool:
        """Store a version; return False if its number is taken."""
        return (await insert_each(self._versions, [_document(version)]))[0]

    async def point(self, to: Published) -> bool:
        """Move the pointer to a version if it still points to ``to.before``; return False if it does not."""
        identity = f"{to.course}/{to.assignment}"
        fields = {name: value for name, value in asdict(to).items() if name != "announced"}
        if not to.before:
            return (await insert_each(self._published, [{"_id": identity, **fields, "announced": 0}]))[0]
        moved = await self._published.update_one({"_id": identity, "version": to.before}, {"$set": fields})
        return moved.modified_count > 0

    async def to_announce(self, *, limit: int) -> list[Published]:
        """Return pointers with ``announce_at`` in the past, the earliest first."""
        query = {"announce_at": {"$gt": datetime.fromtimestamp(0, UTC), "$lte": datetime.now(UTC)}}
        return [_pointer(each) for each in await self._published.find(query, sort=[("announce_at", 1)], limit=limit)]

    async def announced(self, published: Published) -> None:
        """Note that a version is announced, and clear ``announce_at`` unless the pointer has moved since."""
        identity = f"{published.course}/{published.assignment}"
        await self._published.update_one({"_id": identity}, {"$max": {"announced": published.version}})
        query = {"_id": identity, "version": published.version}
        await self._published.update_one(query, {"$set": {"announce_at": None}})


def _id(course: str, assignment: str, number: int) -> str:
    return f"{course}/{assignment}/{number:0{_DIGITS}}"


def _document(version: Version) -> Document:
    fields = asdict(version)
    chunks = [[each.digest, each.first, each.count] for each in version.chunks]
    lists = {"chunks": chunks, "configs": list(version.configs), "images": list(version.images)}
    identity = _id(version.course, version.assignment, version.number)
    return {"_id": identity, **fields, **lists, "made_from": version.made_from.value}


def _version(document: Document) -> Version:
    return Version(
        course=document["course"],
        assignment=document["assignment"],
        number=document["number"],
        based_on=document["based_on"],
        made_from=MadeFrom(document["made_from"]),
        chunks=tuple(ChunkRef(*each) for each in document["chunks"]),
        settings_version=document["settings_version"],
        at=document["at"],
        by=document.get("by", ""),
        reason=document.get("reason", ""),
        note=document.get("note", ""),
        source=document.get("source", ""),
        configs=tuple(document.get("configs") or ()),
        images=tuple(document.get("images") or ()),
        request=document.get("request"),
    )


def _pointer(document: Document) -> Published:
    return Published(
        course=document["course"],
        assignment=document["assignment"],
        version=document["version"],
        at=document["at"],
        by=document.get("by", ""),
        before=document.get("before", 0),
        students=document.get("students", 0),
        announce_at=document.get("announce_at"),
        announced=document.get("announced"),
    )


def _unpacked(content: bytes) -> bytes:
    reader = zlib.decompressobj()
    found = reader.decompress(content, _MAX_CHUNK)
    if not reader.eof:
        raise MissingContentError("entries of a grade book are not complete")
    return found

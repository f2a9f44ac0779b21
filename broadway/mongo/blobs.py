"""The collection ``blob``: contents of files by their SHA-256, each stored once.

A content of more than one part is several documents, whose ids are the digest and the part's number. A document is
removed only after ``sweep_at``, and only if nothing refers to the content then; each use of the content moves that time.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Protocol

from bson.binary import Binary

from broadway.mongo.collection import Collection, Document, Documents, insert_each
from broadway.ports import StoreError

PART = 8 * 1024 * 1024  # bytes of a document; the store takes documents of up to 16 MiB
UNUSED_FOR = timedelta(days=1)  # a content to which nothing refers is kept for this long
CHECKED_AGAIN = timedelta(days=7)  # a content to which something refers is checked again after this time
_BATCH = 200


class MissingBlobError(StoreError):
    """A content that should be stored is not, or has changed."""


class References(Protocol):
    """The documents that refer to contents."""

    async def used(self, digests: AbstractSet[str]) -> set[str]:
        """Return the digests to which a document refers."""


class Blobs:
    """Contents by their hex SHA-256."""

    def __init__(self, collection: Collection) -> None:
        self._blobs = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._blobs.create_index("sweep_at", name="to_sweep")

    async def put(self, sha256: str, content: BinaryIO, size: int) -> None:
        """Store a content, or note that a stored one is used again; its first part is written last.

        Raises:
            ValueError: The content has another digest or size.
        """
        parts = max(1, -(-size // PART))
        digest = hashlib.sha256()
        first: Document | None = None
        for number in range(parts):
            content.seek(number * PART)
            data = await asyncio.to_thread(content.read, PART)
            digest.update(data)
            document = {"_id": _id(sha256, number), "data": Binary(data)}
            if number:
                await self._keep(document)
            else:
                first = document | {"size": size, "parts": parts}
        if digest.hexdigest() != sha256 or content.tell() != size:
            raise ValueError("the content has changed since its digest was made")
        if first:
            await self._keep(first)

    async def _keep(self, document: Document) -> None:
        """Insert a document, or put off its removal. It may be removed between the two, so both are repeated."""
        while not await self._renew(document["_id"]):
            is_new, *_ = await insert_each(self._blobs, [{**document, "sweep_at": datetime.now(UTC) + UNUSED_FOR}])
            if is_new:
                return

    async def _renew(self, identity: str) -> bool:
        until = {"sweep_at": datetime.now(UTC) + UNUSED_FOR}
        return (await self._blobs.update_one({"_id": identity}, {"$set": until})).matched_count > 0

    async def size(self, sha256: str) -> int | None:
        """Return the size of a content in bytes, or None if it is not stored."""
        found = await self._blobs.find_one({"_id": sha256}, {"size": 1})
        return found["size"] if found else None

    async def read(self, sha256: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of a content from ``start`` to before ``end``, a part at a time.

        Raises:
            MissingBlobError: The content is not stored, or a part of it is not.
        """
        size = await self.size(sha256)
        if size is None:
            raise MissingBlobError(f"the content {sha256} is not stored")
        end = size if end is None else min(end, size)
        for number, first, last in _pieces(start, end):
            found = await self._blobs.find_one({"_id": _id(sha256, number)}, {"data": 1})
            if found is None:
                raise MissingBlobError(f"part {number} of the content {sha256} is not stored")
            yield bytes(found["data"])[first:last]

    async def sweep(self, references: References, now: datetime) -> int:
        """Remove the contents to which nothing refers; return how many documents were removed.

        Each change requires that the document was not used since it was read.
        """
        due = await self._blobs.find({"sweep_at": {"$lte": now}}, {"sweep_at": 1}, sort=[("sweep_at", 1)], limit=_BATCH)
        used = await references.used({_digest(each["_id"]) for each in due})
        removed = 0
        for document in due:
            unchanged = {"_id": document["_id"], "sweep_at": document["sweep_at"]}
            if _digest(document["_id"]) in used:
                await self._blobs.update_one(unchanged, {"$set": {"sweep_at": now + CHECKED_AGAIN}})
            else:
                removed += (await self._blobs.delete_one(unchanged)).deleted_count
        return removed


def _id(sha256: str, number: int) -> str:
    return f"{sha256}.{number}" if number else sha256


def _digest(identity: str) -> str:
    return identity.partition(".")[0]


def _pieces(start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the parts that hold some bytes: the part's number, and the range in it."""
    for number in range(start // PART, -(-end // PART)):
        offset = number * PART
        yield number, max(0, start - offset), min(PART, end - offset)

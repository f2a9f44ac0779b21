"""The collection ``blob``: contents of files by their SHA-256, each stored once.

A content of more than one part is several documents, whose ids are the digest and the part's number. A document is
removed only after ``sweep_at``, and only if nothing refers to the content then; each use puts that time off.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta

from bson.binary import Binary

from broadway.domain.files import PART, Content
from broadway.mongo.collection import Collection, Document, Documents, insert_each
from broadway.ports import MissingContentError, UsedContents
from broadway.runtime.clock import in_milliseconds

BATCH = 200  # documents of a write
BATCH_BYTES = 8 * 1024 * 1024  # bytes of a write, besides those of one document
UNUSED_FOR = timedelta(days=1)  # a content to which nothing refers is kept for this long
CHECKED_AGAIN = timedelta(days=7)  # a content to which something refers is checked again after this time


class Blobs:
    """Contents by their hex SHA-256."""

    def __init__(self, collection: Collection) -> None:
        self._blobs = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._blobs.create_index("sweep_at", name="to_sweep")

    async def put(self, contents: Iterable[Content]) -> None:
        """Store contents, and note for each that is stored already that it is used again.

        Memory holds a few parts at a time. The first part of a content is written after its other parts.

        Raises:
            ValueError: A content has another digest than it says.
        """
        batch: list[Document] = []
        for content in contents:
            async for document in _documents(content):
                if batch and (len(batch) >= BATCH or sum(len(each["data"]) for each in batch) > BATCH_BYTES):
                    await self._keep(batch)
                    batch = []
                batch.append(document)
        await self._keep(batch)

    async def _keep(self, documents: list[Document]) -> None:
        """Insert documents, or put off their removal; one that is removed before it is put off is inserted."""
        left = {document["_id"]: document for document in documents}
        while left:
            until = in_milliseconds(datetime.now(UTC) + UNUSED_FOR)
            known = await self._blobs.find({"_id": {"$in": list(left)}}, {"_id": 1})
            if known:
                ids = [each["_id"] for each in known]
                await self._blobs.update_many({"_id": {"$in": ids}}, {"$set": {"sweep_at": until}})
                renewed = await self._blobs.find({"_id": {"$in": ids}, "sweep_at": {"$gte": until}}, {"_id": 1})
                for each in renewed:
                    del left[each["_id"]]
            new = [{**document, "sweep_at": until} for document in left.values()]
            are_inserted = await insert_each(self._blobs, new) if new else []
            for document, is_inserted in zip(new, are_inserted, strict=True):
                if is_inserted:
                    del left[document["_id"]]

    async def size(self, sha256: str) -> int | None:
        """Return the size of a content in bytes, or None if it is not stored."""
        found = await self._blobs.find_one({"_id": sha256}, {"size": 1})
        return found["size"] if found else None

    async def read(self, sha256: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of a content from ``start`` to before ``end``, a part at a time.

        Raises:
            MissingContentError: The content is not stored, or a part of it is not.
        """
        size = await self.size(sha256)
        if size is None:
            raise MissingContentError(f"the content {sha256} is not stored")
        for number, first, last in _pieces(start, size if end is None else min(end, size)):
            found = await self._blobs.find_one({"_id": _id(sha256, number)}, {"data": 1})
            if found is None:
                raise MissingContentError(f"part {number} of the content {sha256} is not stored")
            yield bytes(found["data"])[first:last]

    async def sweep(self, references: UsedContents, now: datetime) -> int:
        """Remove contents to which nothing refers, some at a time; return how many documents were removed.

        Each change requires that the document was not used since it was read.
        """
        due = await self._blobs.find({"sweep_at": {"$lte": now}}, {"sweep_at": 1}, sort=[("sweep_at", 1)], limit=BATCH)
        used = await references.used({_digest(each["_id"]) for each in due})
        removed = 0
        for document in due:
            unchanged = {"_id": document["_id"], "sweep_at": document["sweep_at"]}
            if _digest(document["_id"]) in used:
                await self._blobs.update_one(unchanged, {"$set": {"sweep_at": now + CHECKED_AGAIN}})
            else:
                removed += (await self._blobs.delete_one(unchanged)).deleted_count
        return removed


async def used_contents(manifests: Documents, digests: AbstractSet[str]) -> set[str]:
    """Return the digests of contents that are among the files of a manifest.

    Each digest is one question, since the index answers equality alone without a scan.
    """
    return {digest for digest in digests if await manifests.find_one({"files.sha256": digest}, {"_id": 1})}


async def _documents(content: Content) -> AsyncIterator[Document]:
    """Yield the documents of a content, the first one last."""
    parts = max(1, -(-content.size // PART))
    digest, first = hashlib.sha256(), Binary(b"")
    for number in range(parts):
        data = Binary(await asyncio.to_thread(content.read, number * PART, min(PART, content.size - number * PART)))
        digest.update(data)
        if number:
            yield {"_id": _id(content.sha256, number), "data": data}
        else:
            first = data
    if digest.hexdigest() != content.sha256:
        raise ValueError(f"the content has changed: its digest was {content.sha256}")
    yield {"_id": content.sha256, "data": first, "size": content.size, "parts": parts}


def _id(sha256: str, number: int) -> str:
    return f"{sha256}.{number}" if number else sha256


def _digest(identity: str) -> str:
    return identity.partition(".")[0]


def _pieces(start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the parts that hold some bytes: the part's number, and the range in it."""
    for number in range(start // PART, -(-end // PART)):
        offset = number * PART
        yield number, max(0, start - offset), min(PART, end - offset)

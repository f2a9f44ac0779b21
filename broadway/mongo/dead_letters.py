"""The collection ``dead_letter``: messages that no service could handle, kept for operators."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from bson.binary import Binary

from broadway.domain.letter import Letter
from broadway.mongo.collection import Collection, Document, Documents


class DeadLetters:
    """Dead letters. A message that dies several times in the same queue is stored once."""

    def __init__(self, collection: Collection) -> None:
        self._letters = Documents(collection)

    async def put(self, *, message_id: str, subject: str, queue: str, reason: str, body: bytes) -> None:
        """Store a dead letter; a repetition of the same message from the same queue only increments its count."""
        about = {
            "message_id": message_id,
            "subject": subject,
            "queue": queue,
            "reason": reason,
            "body": Binary(body),
        }
        now = datetime.now(UTC)
        await self._letters.update_one(
            {"_id": _id(queue, message_id)},
            {"$set": {**about, "last_at": now}, "$setOnInsert": {"first_at": now}, "$inc": {"count": 1}},
            upsert=True,
        )

    async def latest(self, limit: int) -> list[Letter]:
        """Return up to ``limit`` dead letters, latest first."""
        found = await self._letters.find({}, sort=[("last_at", -1), ("_id", 1)], limit=limit)
        return [_letter(document) for document in found]

    async def newest(self) -> Letter | None:
        """Return the latest dead letter, without its body, or None."""
        found = await self._letters.find_one({}, {"body": 0}, sort=[("last_at", -1)])
        return _letter(found) if found else None

    async def get(self, letter_id: str) -> Letter | None:
        found = await self._letters.find_one({"_id": letter_id})
        return _letter(found) if found else None

    async def discard(self, letter_id: str) -> bool:
        """Remove a dead letter; return False if it does not exist."""
        return (await self._letters.delete_one({"_id": letter_id})).deleted_count > 0

    async def old(self, before: datetime, *, limit: int) -> list[str]:
        """Return the ids of letters that did not die again since a moment."""
        return [each["_id"] for each in await self._letters.find({"last_at": {"$lt": before}}, {"_id": 1}, limit=limit)]

    async def remove_old(self, identities: Sequence[str], before: datetime) -> int:
        """Remove letters that did not die again since a moment; return their number."""
        query: Document = {"_id": {"$in": list(identities)}, "last_at": {"$lt": before}}
        return (await self._letters.delete_many(query)).deleted_count

    async def count(self) -> int:
        return await self._letters.count_documents({})


def _id(queue: str, message_id: str) -> str:
    """Return an id that is safe in a URL, unlike a message's own id."""
    return hashlib.sha256(f"{queue}\0{message_id}".encode()).hexdigest()[:24]


def _letter(document: Document) -> Letter:
    return Letter(
        id=str(document["_id"]),
        message_id=document.get("message_id", ""),
        queue=document.get("queue", ""),
        subject=document.get("subject", ""),
        reason=document.get("reason", ""),
        body=bytes(document.get("body", b"")),
        count=document.get("count", 1),
        first_at=document["first_at"],
        last_at=document["last_at"],
    )

"""The collection ``dead_letter``: messages that no service could handle, kept for operators."""

import hashlib
from datetime import UTC, datetime

from bson.binary import Binary

from broadway.domain.letter import Letter
from broadway.mongo.collection import Collection, Document, Documents

MAX_BODY = 8 * 1024 * 1024  # bytes that are kept of a message


class DeadLetters:
    """Dead letters, each once however often it has died in the same queue."""

    def __init__(self, collection: Collection) -> None:
        self._letters = Documents(collection)

    async def put(self, *, message_id: str, subject: str, queue: str, reason: str, body: bytes) -> None:
        """Keep one. The same message dying again in the same queue is counted, not kept twice."""
        about = {
            "message_id": message_id,
            "subject": subject,
            "queue": queue,
            "reason": reason,
            "body": Binary(body[:MAX_BODY]),
        }
        now = datetime.now(UTC)
        await self._letters.update_one(
            {"_id": _id(queue, message_id)},
            {"$set": {**about, "last_at": now}, "$setOnInsert": {"first_at": now}, "$inc": {"count": 1}},
            upsert=True,
        )

    async def latest(self, limit: int) -> list[Letter]:
        """The last that died, latest first."""
        found = await self._letters.find({}, sort=[("last_at", -1), ("_id", 1)], limit=limit)
        return [_letter(document) for document in found]

    async def newest(self) -> Letter | None:
        """Return the letter that died last, without its body, or None."""
        found = await self._letters.find_one({}, {"body": 0}, sort=[("last_at", -1)])
        return _letter(found) if found else None

    async def get(self, letter_id: str) -> Letter | None:
        found = await self._letters.find_one({"_id": letter_id})
        return _letter(found) if found else None

    async def discard(self, letter_id: str) -> bool:
        """Forget one; whether there was one."""
        return (await self._letters.delete_one({"_id": letter_id})).deleted_count > 0

    async def count(self) -> int:
        return await self._letters.count_documents({})


def _id(queue: str, message_id: str) -> str:
    """An id that fits into an address, which a message's own need not."""
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

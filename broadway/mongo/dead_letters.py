"""The collection ``dead_letter``: messages that no service could handle, kept for operators."""

from datetime import UTC, datetime

from bson.binary import Binary

from broadway.mongo.collection import Collection


class DeadLetters:
    """Dead letters, newest last."""

    def __init__(self, collection: Collection) -> None:
        self._letters = collection

    async def put(self, *, message_id: str, subject: str, queue: str, reason: str, body: bytes) -> None:
        """Keep one. The same message dying again in the same queue is counted, not kept twice."""
        await self._letters.update_one(
            {"_id": f"{queue}/{message_id}"},
            {
                "$set": {"subject": subject, "queue": queue, "reason": reason, "body": Binary(body)},
                "$setOnInsert": {"first_at": datetime.now(UTC)},
                "$currentDate": {"last_at": True},
                "$inc": {"count": 1},
            },
            upsert=True,
        )

    async def count(self) -> int:
        return await self._letters.count_documents({})

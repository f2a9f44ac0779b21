"""Graders of the collection ``worker_node`` that are gone for long."""

from collections.abc import Sequence
from datetime import datetime

from broadway.mongo.collection import Collection, Document, Documents
from broadway.mongo.graders import ADMITTED


class OldGraders:
    """Graders that have left or died. Revoked ones stay: their documents refuse them."""

    def __init__(self, collection: Collection) -> None:
        self._graders = Documents(collection)

    async def old(self, before: datetime, *, limit: int) -> list[str]:
        """Return the ids of graders that were last seen before a moment, and have no user at the broker."""
        return [each["_id"] for each in await self._graders.find(_gone(before), {"_id": 1}, limit=limit)]

    async def remove_old(self, identities: Sequence[str], before: datetime) -> int:
        """Remove graders that have not come back since a moment; return their number."""
        query = {"_id": {"$in": list(identities)}, **_gone(before)}
        return (await self._graders.delete_many(query)).deleted_count


def _gone(before: datetime) -> Document:
    return {
        "alive": False,
        "last_seen": {"$lt": before},
        "broker_user": None,
        **ADMITTED,
        "running_job_ids": {"$in": [None, []]},
    }

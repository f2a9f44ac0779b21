"""The collection ``service_lease``: the leases that choose the active replica of a service."""

from datetime import UTC, datetime, timedelta

from broadway.mongo.collection import Collection, Documents
from broadway.mongo.errors import DuplicateKeyError


class Leases:
    """Named leases, each held by one process at a time until it expires."""

    def __init__(self, collection: Collection) -> None:
        self._leases = Documents(collection)

    async def acquire(self, name: str, holder: str, ttl: timedelta) -> bool:
        """Take or renew a lease for ``ttl`` from now; return False while another process holds it."""
        now = datetime.now(UTC)
        available = {"_id": name, "$or": [{"holder": holder}, {"expires_at": {"$lt": now}}]}
        try:
            result = await self._leases.update_one(
                available, {"$set": {"holder": holder, "expires_at": now + ttl}}, upsert=True
            )
        except DuplicateKeyError:
            return False
        return result.matched_count > 0 or result.upserted_id is not None

    async def release(self, name: str, holder: str) -> None:
        """Release a lease if ``holder`` holds it."""
        await self._leases.delete_one({"_id": name, "holder": holder})

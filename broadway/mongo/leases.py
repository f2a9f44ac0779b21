"""The collection ``service_lease``: which replica of a service is the active one."""

from datetime import UTC, datetime, timedelta

from broadway.mongo.collection import Collection, Documents
from broadway.mongo.errors import DuplicateKeyError


class Leases:
    """Named leases, each held by one process at a time until it expires."""

    def __init__(self, collection: Collection) -> None:
        self._leases = Documents(collection)

    async def acquire(self, name: str, holder: str, ttl: timedelta) -> bool:
        """Take or renew a lease for ``ttl`` from now. False while another holder's has not expired."""
        now = datetime.now(UTC)
        mine = {"_id": name, "$or": [{"holder": holder}, {"expires_at": {"$lt": now}}]}
        try:
            result = await self._leases.update_one(
                mine, {"$set": {"holder": holder, "expires_at": now + ttl}}, upsert=True
            )
        except DuplicateKeyError:
            return False
        return result.matched_count > 0 or result.upserted_id is not None

    async def release(self, name: str, holder: str) -> None:
        """Give a lease back, if it is held by ``holder``."""
        await self._leases.delete_one({"_id": name, "holder": holder})

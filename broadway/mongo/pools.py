"""The collection ``pool``: the settings of pools of graders."""

import contextlib
from datetime import datetime

from broadway.domain.pool import Pool
from broadway.mongo.cache import Cache
from broadway.mongo.collection import Collection, Document, Documents
from broadway.mongo.errors import DuplicateKeyError

_SWITCHES = "*"  # no pool's name: the document that says since when the store has had switches


class Pools:
    """Settings of pools by name."""

    def __init__(self, collection: Collection) -> None:
        self._pools = Documents(collection)
        self._recent = Cache(self._read)

    async def admits_originals(self, pool: str) -> bool:
        """Return whether a pool admits graders without secrets; the answer may be a second behind the store."""
        found = await self._recent.get(pool)
        return found is not None and found.original_graders

    async def all(self) -> list[Pool]:
        """Return the pools whose settings have been changed, by name."""
        found = await self._pools.find({"_id": {"$ne": _SWITCHES}}, sort=[("_id", 1)])
        return [_pool(document) for document in found]

    async def put(self, pool: Pool) -> None:
        """Store the settings of a pool."""
        await self._put(pool, "$set")
        self._recent.forget(pool.id)

    async def put_first(self, pool: Pool) -> None:
        """Store the settings of a pool unless it has settings."""
        await self._put(pool, "$setOnInsert")

    async def has_switches(self) -> bool:
        """Return whether the store has been used with switches before; a store of an earlier version has not."""
        return await self._pools.find_one({"_id": _SWITCHES}, {"_id": 1}) is not None

    async def note_switches(self, now: datetime) -> None:
        """Record that the store is used with switches from now on."""
        await self._insert(_SWITCHES, "$setOnInsert", {"changed_at": now})

    async def _put(self, pool: Pool, how: str) -> None:
        settings = {"original_graders": pool.original_graders, "reason": pool.reason, "changed_at": pool.changed_at}
        await self._insert(pool.id, how, settings)

    async def _insert(self, name: str, how: str, settings: Document) -> None:
        """Change a document, and create it if it is missing; two callers may try to create it at the same moment."""
        try:
            await self._pools.update_one({"_id": name}, {how: settings}, upsert=True)
        except DuplicateKeyError:
            with contextlib.suppress(DuplicateKeyError):
                await self._pools.update_one({"_id": name}, {how: settings}, upsert=True)

    async def _read(self, name: str) -> Pool | None:
        found = await self._pools.find_one({"_id": {"$eq": name}})
        return _pool(found) if found else Pool(name)


def _pool(document: Document) -> Pool:
    return Pool(
        id=document["_id"],
        original_graders=bool(document.get("original_graders")),
        reason=document.get("reason", ""),
        changed_at=document.get("changed_at"),
    )

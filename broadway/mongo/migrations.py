"""The collection ``migration``: changes of the store that are made once, when the first service of a version starts.

A document records a change: its name, when it began and ended, and by whom. Reads cope with documents of earlier
versions, so a migration is for the rest, such as indexes. Each one can be repeated, and is safe while services of the
version before run. A process that dies leaves a lease that expires; then another one begins the migration again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import structlog
from pymongo.asynchronous.database import AsyncDatabase

from broadway.mongo.collection import Collection, Document, Documents
from broadway.mongo.errors import DuplicateKeyError, translated
from broadway.mongo.obsolete_indexes import OBSOLETE, REPLACED, ObsoleteIndex
from broadway.ports import StoreError
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

Database = AsyncDatabase[dict[str, Any]]

LEASE = timedelta(seconds=30)
POLL = 0.2  # seconds between two checks of a migration that another process carries out
RESTORE = "restore"  # the id of the document that shows whether a restore has ended; it is no migration


class UnfinishedRestoreError(StoreError):
    """The store has a part of a backup."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A change of the primary database; the name is stored, and never changes."""

    name: str
    summary: str
    apply: Callable[[Database], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class MigrationState:
    """A migration with its record; ``by`` is the process that carried it out, or that does so now.

    The summary is empty if this version does not know the migration, because a later version has made it.
    """

    name: str
    summary: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    by: str = ""

    @property
    def is_pending(self) -> bool:
        return self.finished_at is None


async def drop_obsolete_indexes(main: Database) -> None:
    """Drop the indexes of earlier versions that stand in the way of this version's, or that no query uses."""
    await _drop(main, OBSOLETE)


async def drop_replaced_indexes(main: Database) -> None:
    """Drop the indexes of the version before, once those of this version exist."""
    await _drop(main, REPLACED)


async def _drop(main: Database, indexes: Iterable[ObsoleteIndex]) -> None:
    """Drop indexes that have these names and these fields, and that no other process has dropped meanwhile."""
    present = set(await translated(main.list_collection_names()))
    for index in indexes:
        if index.collection not in present:
            continue
        found = (await translated(main[index.collection].index_information())).get(index.name)
        if found and [(field, int(order)) for field, order in found["key"]] == list(index.keys):
            await Documents(main[index.collection]).drop_index(index.name)


MIGRATIONS = (
    Migration(
        "indexes-before-2026-11-30",
        "drop indexes of earlier versions, whose names or fields this version's indexes have",
        drop_obsolete_indexes,
    ),
)


class Migrations:
    """The migrations of a version, with the records of those that were made."""

    def __init__(
        self, collection: Collection, known: Sequence[Migration] = MIGRATIONS, *, lease: timedelta = LEASE
    ) -> None:
        self._records = Documents(collection)
        self._known = known
        self._lease = lease

    async def states(self) -> list[MigrationState]:
        """Return all migrations in their order; after them those that only a later version knows."""
        records = {each["_id"]: each for each in await self._records.find({"_id": {"$ne": RESTORE}})}
        known = [_state(each.name, each.summary, records.pop(each.name, {})) for each in self._known]
        return known + [_state(name, "", record) for name, record in sorted(records.items())]

    async def require_whole(self) -> None:
        """Return if no restore has begun that has not ended.

        Raises:
            UnfinishedRestoreError: The store has a part of a backup.
        """
        record = await self._records.find_one({"_id": RESTORE, "finished_at": None})
        if record:
            begun = f"a restore by {record['by']}, begun at {record['started_at'].isoformat(timespec='seconds')}"
            raise UnfinishedRestoreError(f"{begun}, has not ended: wait for it, or repeat `broadway restore`")

    async def run(self, main: Database, *, by: str) -> list[str]:
        """Carry out the pending migrations in their order; return the names of those that this call has made.

        A migration that another process carries out is awaited.
        """
        ended = {state.name for state in await self.states() if not state.is_pending}
        return [each.name for each in self._known if each.name not in ended and await self._once(each, main, by)]

    async def _once(self, migration: Migration, main: Database, by: str) -> bool:
        """Carry out a migration, or wait until another process has; return True if it was this process."""
        holder = token_hex(8)
        while not await self._claim(migration.name, holder, by):
            if await self._records.find_one({"_id": migration.name, "finished_at": {"$ne": None}}):
                return False
            await asyncio.sleep(POLL)
        await reach(Point.MIGRATION_CLAIMED)
        log.info("migration begun", migration=migration.name)
        renewing = asyncio.create_task(self._renew(migration.name, holder, by))
        try:
            await migration.apply(main)
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})
        await reach(Point.MIGRATION_APPLIED)
        await self._records.update_one({"_id": migration.name}, {"$set": {"finished_at": datetime.now(UTC), "by": by}})
        log.info("migration ended", migration=migration.name)
        return True

    async def _claim(self, name: str, holder: str, by: str) -> bool:
        """Take or renew the lease of a migration that has not ended; return False if another process holds it."""
        now = datetime.now(UTC)
        free = [{"holder": holder}, {"held_until": {"$lt": now}}]
        change = {
            "$set": {"holder": holder, "held_until": now + self._lease, "by": by},
            "$setOnInsert": {"started_at": now},
        }
        try:
            result = await self._records.update_one(
                {"_id": name, "finished_at": None, "$or": free}, change, upsert=True
            )
        except DuplicateKeyError:
            return False
        return result.matched_count > 0 or result.upserted_id is not None

    async def _renew(self, name: str, holder: str, by: str) -> None:
        """Keep the lease while the migration runs. A lease that is lost does no harm: migrations can be repeated."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            try:
                await self._claim(name, holder, by)
            except StoreError as error:
                log.warning("the lease of a migration is not renewed", migration=name, reason=str(error))


def _state(name: str, summary: str, record: Document) -> MigrationState:
    return MigrationState(name, summary, record.get("started_at"), record.get("finished_at"), record.get("by", ""))

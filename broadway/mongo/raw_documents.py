"""All documents of a deployment as they are stored, without their meaning, to copy them.

A place names a collection, no matter how the databases are called: ``primary/grading_job`` or ``logs/job_log``.
"""

import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from bson import decode
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern

from broadway.domain.parts import in_parts
from broadway.mongo.client import Client, connected
from broadway.mongo.collection import DUPLICATE_KEY, IDS, Document, object_id
from broadway.mongo.errors import translated
from broadway.mongo.migrations import RESTORE
from broadway.ports import StoreError

PRIMARY, LOGS = "primary", "logs"
JOB_LOG = "job_log"  # the only collection of the logs' database
RUNS, JOBS, MIGRATIONS = f"{PRIMARY}/grading_run", f"{PRIMARY}/grading_job", f"{PRIMARY}/migration"
LEASES = f"{PRIMARY}/service_lease"
BATCH = 200  # documents of an answer
DURABLE = WriteConcern("majority", j=True, wtimeout=60_000)

Raw = AsyncCollection[RawBSONDocument]
_RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_CLAMP,
)


_READ: CodecOptions[dict[str, Any]] = CodecOptions(
    unicode_decode_error_handler="replace", datetime_conversion=DatetimeConversion.DATETIME_CLAMP
)


_MALFORMED, _NO_ID = "a document is not well formed", "a document has no id"


class UnreadableError(ValueError):
    """A document is not one that a store has written."""


def decoded(document: bytes) -> Mapping[str, Any]:
    """Return the fields of a document; times have no time zone, and are UTC.

    Raises:
        UnreadableError: It is not well formed, or has no id.
    """
    try:
        found = decode(document, _READ)
    except BSONError as error:
        raise UnreadableError(_MALFORMED) from error
    if "_id" not in found:
        raise UnreadableError(_NO_ID)
    return found


def _database(client: Client, name: str) -> AsyncDatabase[Document]:
    concern = ReadConcern("majority")
    return client.get_database(
        name, read_concern=concern, read_preference=ReadPreference.PRIMARY, write_concern=DURABLE
    )


@dataclass(frozen=True, slots=True)
class RawDocuments:
    """The two databases of a deployment. Every read sees all writes that were acknowledged before it."""

    _databases: Mapping[str, AsyncDatabase[Document]]

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, dsn: str, *, primary: str, logs: str, server_timeout: float = 5) -> AsyncIterator[Self]:
        """Connect to a store; nothing is changed.

        Raises:
            StoreUnreachableError: The address is invalid, or no store answers.
        """
        async with connected(dsn, server_timeout=server_timeout, service="backup") as client:
            yield cls({PRIMARY: _database(client, primary), LOGS: _database(client, logs)})

    async def places(self) -> list[str]:
        """Return the places of all collections, sorted."""
        found = {}
        for role, database in self._databases.items():
            names = await translated(database.list_collection_names())
            found[role] = {name for name in names if not name.startswith("system.")}
        main = found[PRIMARY] - {JOB_LOG}
        return sorted([*(f"{PRIMARY}/{name}" for name in main), *(f"{LOGS}/{n}" for n in found[LOGS] & {JOB_LOG})])

    async def documents(self, place: str, query: Document | None = None) -> AsyncIterator[bytes]:
        """Yield the documents of a collection, some at a time, as BSON one after another."""
        cursor = self._raw(place).find_raw_batches(query or {}, batch_size=BATCH)
        while True:
            try:
                batch: Any = await translated(cursor.next())
            except StopAsyncIteration:
                return
            yield batch

    async def runs_and_jobs(self, run_ids: Sequence[str]) -> AsyncIterator[tuple[str, bytes]]:
        """Yield the documents of some runs with their places; after them those of their jobs."""
        for some in in_parts(run_ids, IDS):
            async for batch in self.documents(RUNS, {"_id": {"$in": [object_id(each) for each in some]}}):
                yield RUNS, batch
            async for batch in self.documents(JOBS, {"grading_run_id": {"$in": list(some)}}):
                yield JOBS, batch

    async def rounds(self) -> dict[str, int]:
        """Return the rounds of the runs that have had an order, by the run's id."""
        runs = self._collection(RUNS)
        found = await translated(runs.find({"round": {"$gt": 1}}, {"round": 1}).to_list())
        return {str(each["_id"]): int(each["round"]) for each in found}

    async def put(self, place: str, documents: Sequence[bytes]) -> None:
        """Insert documents; one with the id of a stored one replaces it.

        Raises:
            UnreadableError: One of them is not well formed, or has no id.
        """
        collection = self._raw(place)
        try:
            opened = [RawBSONDocument(each, _RAW) for each in documents]
            has_ids = all("_id" in each for each in opened)
        except BSONError as error:
            raise UnreadableError(_MALFORMED) from error
        if not has_ids:
            raise UnreadableError(_NO_ID)
        try:
            await translated(collection.insert_many(opened, ordered=False))
        except StoreError as error:
            if not isinstance(error.__cause__, BulkWriteError):
                raise
            problems = error.__cause__.details["writeErrors"]
            if not problems or any(each.get("code") != DUPLICATE_KEY for each in problems):
                raise
            for document in [opened[each["index"]] for each in problems]:
                await translated(collection.replace_one({"_id": document["_id"]}, document))

    async def migrations(self) -> list[str]:
        """Return the names of the migrations that were made."""
        query = {"_id": {"$ne": RESTORE}, "finished_at": {"$ne": None}}
        found = await translated(self._collection(MIGRATIONS).find(query, {"_id": 1}).to_list())
        return sorted(str(each["_id"]) for each in found)

    @staticmethod
    def without_restores(records: Iterable[bytes]) -> list[bytes]:
        """Return the records of migrations without that of a restore."""
        return [each for each in records if decoded(each)["_id"] != RESTORE]

    async def known(self, place: str, identities: Collection[str]) -> set[str]:
        """Return those of some ids that documents of a collection have, as text."""
        ids = [value for each in identities for value in (each, object_id(each)) if value is not None]
        found: set[str] = set()
        for some in in_parts(ids, IDS):
            query = {"_id": {"$in": some}}
            found |= {
                str(d["_id"]) for d in await translated(self._collection(place).find(query, {"_id": 1}).to_list())
            }
        return found

    async def filled(self, but: Iterable[str]) -> list[str]:
        """Return the places of collections that have a document, except for some."""
        others = [place for place in await self.places() if place not in set(but)]
        return [place for place in others if await translated(self._collection(place).find_one({}, {"_id": 1}))]

    async def clear(self) -> None:
        """Remove all documents except the record of a restore."""
        for place in await self.places():
            await translated(self._collection(place).delete_many({"_id": {"$ne": RESTORE}}))

    async def leader(self, name: str) -> str | None:
        """Return the holder of a service's lease; None if no process holds it now."""
        query = {"_id": name, "expires_at": {"$gt": datetime.now(UTC)}}
        found = await translated(self._collection(LEASES).find_one(query))
        return str(found["holder"]) if found else None

    async def has_begun_restore(self) -> bool:
        """Return whether a restore has begun that has not ended."""
        query = {"_id": RESTORE, "finished_at": None}
        return await translated(self._collection(MIGRATIONS).find_one(query)) is not None

    async def begin_restore(self, by: str) -> None:
        """Note that the store has a part of a backup from now on, so that no service uses it."""
        record = {"started_at": datetime.now(UTC), "finished_at": None, "by": by}
        await translated(self._collection(MIGRATIONS).replace_one({"_id": RESTORE}, record, upsert=True))

    async def end_restore(self) -> None:
        """Note that the store has all of a backup."""
        change = {"$set": {"finished_at": datetime.now(UTC)}}
        await translated(self._collection(MIGRATIONS).update_one({"_id": RESTORE}, change))

    def _collection(self, place: str) -> AsyncCollection[Document]:
        role, _, name = place.partition("/")
        return self._databases[role][name]

    def _raw(self, place: str) -> Raw:
        collection: Any = self._collection(place)
        raw: Raw = collection.with_options(codec_options=_RAW)
        return raw

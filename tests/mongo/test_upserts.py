"""Upserts that race: on the embedded store, and as a real MongoDB reports the loser, with a duplicate key."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError as DriverDuplicateKeyError
from pymongo.results import UpdateResult

from broadway.domain.roster import Roster
from broadway.messages.events import GraderHeartbeat
from broadway.mongo.collection import Documents
from broadway.mongo.errors import DuplicateKeyError
from broadway.mongo.store import Store

RIVALS = 8

Put = Callable[[Store, str, int], Awaitable[Any]]


def heartbeat(name: str) -> GraderHeartbeat:
    return GraderHeartbeat(grader_id=name, hostname="h", pool="default", slots=2, sent_at=datetime.now(UTC))


PUTS: dict[str, Put] = {
    "assignment": lambda store, name, number: store.assignments.put(name, "mp1", {"number": number}),
    "roster": lambda store, name, _: store.rosters.put(name, "mp1", Roster(students=())),
    "heartbeat": lambda store, name, _: store.graders.beat([heartbeat(name)], now=datetime.now(UTC)),
    "secret": lambda store, name, _: store.secrets.get(name),
}


@pytest.mark.parametrize("put", PUTS.values(), ids=PUTS)
async def test_concurrent_first_writes_all_succeed(store: Store, put: Put) -> None:
    for _ in range(10):
        name = token_hex(6)
        await asyncio.gather(*(put(store, name, number) for number in range(RIVALS)))


class Overtaken:
    """A collection in which another writer inserts the document just before each of the first upserts."""

    def __init__(self, collection: Any, rival: dict[str, Any], times: int) -> None:
        self._collection = collection
        self._rival = rival
        self._times = times

    async def update_one(self, query: Any, change: Any, **options: Any) -> UpdateResult:
        await self._overtake()
        return await self._collection.update_one(query, change, **options)  # type: ignore[no-any-return]

    async def replace_one(self, query: Any, document: Any, **options: Any) -> UpdateResult:
        await self._overtake()
        return await self._collection.replace_one(query, document, **options)  # type: ignore[no-any-return]

    async def _overtake(self) -> None:
        if self._times:
            self._times -= 1
            await self._collection.replace_one({"_id": self._rival["_id"]}, self._rival, upsert=True)
            raise DriverDuplicateKeyError("E11000 duplicate key error", 11000, {"code": 11000})


async def test_an_upsert_that_loses_is_applied_to_the_winners_document(database: AsyncDatabase[dict[str, Any]]) -> None:
    name, plain = token_hex(6), database["upserts"]
    documents = Documents(Overtaken(plain, {"_id": name, "count": 1}, times=1))  # type: ignore[arg-type]

    await documents.update_one({"_id": name}, {"$inc": {"count": 1}}, upsert=True)
    assert await plain.find_one({"_id": name}) == {"_id": name, "count": 2}
    replacing = Documents(Overtaken(plain, {"_id": name, "count": 1}, times=1))  # type: ignore[arg-type]
    await replacing.replace_one({"_id": name}, {"count": 7}, upsert=True)
    assert await plain.find_one({"_id": name}) == {"_id": name, "count": 7}


async def test_a_conditional_upsert_reports_that_the_document_does_not_match(
    database: AsyncDatabase[dict[str, Any]],
) -> None:
    name, plain = token_hex(6), database["upserts"]
    documents = Documents(Overtaken(plain, {"_id": name, "holder": "other"}, times=1))  # type: ignore[arg-type]

    with pytest.raises(DuplicateKeyError):
        await documents.update_one({"_id": name, "holder": "me"}, {"$set": {"holder": "me"}}, upsert=True)
    assert await plain.find_one({"_id": name}) == {"_id": name, "holder": "other"}

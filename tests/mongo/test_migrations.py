"""Changes of the store that are made once, by the first process of a version."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest
from crashing import Crash
from harness import Place, until
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from broadway.mongo.inspection import Inspection
from broadway.mongo.migrations import MIGRATIONS, RESTORE, Migration, Migrations, UnfinishedRestoreError
from broadway.mongo.obsolete_indexes import OBSOLETE, REPLACED
from broadway.mongo.store import Store
from broadway.runtime.crashpoints import CrashPointError, Point

OF_MIGRATIONS = (Point.MIGRATION_CLAIMED, Point.MIGRATION_APPLIED)
Database = AsyncDatabase[dict[str, Any]]


@pytest.fixture
async def empty(shared_place: Place) -> AsyncIterator[Database]:
    """A database of its own."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(shared_place.mongodb_dsn, tz_aware=True)
    async with client:
        name = f"m{token_hex(4)}"
        yield client[name]
        await client.drop_database(name)


async def test_services_start_on_a_store_with_indexes_of_earlier_versions(empty: Database, shared_place: Place) -> None:
    for index in OBSOLETE:
        await empty[index.collection].create_index(list(index.keys), name=index.name)
    async with Store.connect(shared_place.mongodb_dsn, primary=empty.name, logs=empty.name, service="ingest") as store:
        states = await store.migrations.states()
    indexes = await empty["grading_job"].index_information()
    assert not indexes.keys() & {"open_by_run", "outbox", "leases", "by_state"}
    assert indexes["by_run"]["key"] == [("grading_run_id", 1), ("state", 1)]
    assert {each.name for each in states if not each.is_pending} == {each.name for each in MIGRATIONS}
    assert states[0].by.startswith("ingest on ")


async def test_each_service_replaces_the_indexes_that_the_version_before_creates(
    empty: Database, shared_place: Place
) -> None:
    for _ in range(2):  # a service of the version before starts again during the upgrade
        for index in REPLACED:
            await empty[index.collection].create_index(list(index.keys), name=index.name)
        async with Store.connect(shared_place.mongodb_dsn, primary=empty.name, logs=empty.name):
            indexes = await empty["grading_job"].index_information()
        assert "by_state_and_pool" not in indexes
        assert indexes["by_pool"]["key"] == [("state", 1), ("pool", 1), ("queued_at", 1)]


async def test_no_index_of_this_version_is_obsolete(store: Store, database: Database) -> None:
    await store.ensure_indexes()
    for index in (*OBSOLETE, *REPLACED):
        present = await database[index.collection].index_information()
        assert list(index.keys) not in [found["key"] for name, found in present.items() if name == index.name]


async def test_concurrent_processes_make_a_migration_once(empty: Database) -> None:
    made = []

    async def apply(_: Database) -> None:
        made.append("begun")
        await asyncio.sleep(0)
        await until(lambda: len(started) == 3)
        made.append("ended")

    async def start(number: int) -> list[str]:
        started.append(number)
        return await Migrations(empty["migration"], [Migration("one", "…", apply)]).run(empty, by=f"process {number}")

    started: list[int] = []
    results = await asyncio.gather(*map(start, range(3)))
    assert made == ["begun", "ended"]
    assert sorted(map(len, results)) == [0, 0, 1]
    assert await Migrations(empty["migration"], [Migration("one", "…", apply)]).run(empty, by="later") == []


@pytest.mark.parametrize("point", OF_MIGRATIONS, ids=str)
async def test_a_migration_is_made_again_after_a_crash(empty: Database, crash: Crash, point: Point) -> None:
    made = []

    async def apply(_: Database) -> None:
        made.append(point)

    migrations = Migrations(empty["migration"], [Migration("one", "…", apply)], lease=timedelta(seconds=0.2))
    crash(point)
    with pytest.raises(CrashPointError):
        await migrations.run(empty, by="first")
    assert [each.is_pending for each in await migrations.states()] == [True]
    assert await migrations.run(empty, by="second") == ["one"]
    assert made == [point] * (1 + (point is Point.MIGRATION_APPLIED))
    assert [(each.is_pending, each.by) for each in await migrations.states()] == [(False, "second")]


async def test_a_lease_is_kept_while_a_long_migration_runs(empty: Database) -> None:
    lease, makers, may_end = timedelta(seconds=0.3), list[str](), asyncio.Event()

    def of(name: str) -> Migrations:
        async def apply(_: Database) -> None:
            makers.append(name)
            await may_end.wait()

        return Migrations(empty["migration"], [Migration("one", "…", apply)], lease=lease)

    first = asyncio.create_task(of("first").run(empty, by="first"))
    await until(lambda: makers)
    until_then = (await empty["migration"].find_one({"_id": "one"}) or {})["held_until"]
    second = asyncio.create_task(of("second").run(empty, by="second"))

    async def is_renewed() -> bool:
        return (await empty["migration"].find_one({"_id": "one"}) or {})["held_until"] > until_then + 2 * lease

    await until(is_renewed)
    may_end.set()
    assert (await first, await second) == (["one"], [])
    assert makers == ["first"]


async def test_no_service_uses_a_part_of_a_backup(empty: Database, shared_place: Place) -> None:
    begun = {"started_at": datetime.now(UTC), "finished_at": None, "by": "restore on host1"}
    await empty["migration"].insert_one({"_id": RESTORE, **begun})
    names = {"primary": empty.name, "logs": empty.name}
    with pytest.raises(UnfinishedRestoreError, match=r"restore on host1, .* has not ended: wait for it, or repeat"):
        async with Store.connect(shared_place.mongodb_dsn, **names):
            pass
    await empty["migration"].update_one({"_id": RESTORE}, {"$set": {"finished_at": datetime.now(UTC)}})
    async with Store.connect(shared_place.mongodb_dsn, **names) as store:
        assert RESTORE not in [each.name for each in await store.migrations.states()]


async def test_an_inspection_shows_pending_migrations_and_those_of_a_later_version(
    empty: Database, shared_place: Place
) -> None:
    await empty["migration"].insert_one({"_id": "of-later", "finished_at": datetime.now(UTC)})
    found = await Inspection.take(shared_place.mongodb_dsn, primary=empty.name, logs=empty.name, within=30)
    shown = [(each.name, each.is_pending, bool(each.summary)) for each in found.migrations]
    assert shown == [*((each.name, True, True) for each in MIGRATIONS), ("of-later", False, False)]

"""Pools' switches when ingest starts: off in a new store, and on where an older store has graders of the original."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from structlog.testing import capture_logs

from broadway.cli.identity_checks import identities
from broadway.ingest.commands.pools import Pools
from broadway.mongo.inspection import Inspection
from broadway.mongo.store import Store
from broadway.settings.programs import IngestSettings

Document = dict[str, object]
NOW = datetime.now(UTC)
ORIGINAL: Document = {
    "worker_hostname": "old.example",
    "jobs_processed": 7,
    "last_seen": NOW,
    "alive": False,
    "use_ws": False,
    "running_job_id": None,
}
OURS: Document = {**ORIGINAL, "alive": True, "pool": "ours", "slots": 2, "joined_at": NOW, "gateway": None}


@dataclass
class Start:
    """A store of its own, and ingest's start over it."""

    store: Store
    database: AsyncDatabase[Document]
    settings: IngestSettings

    async def begin(self, *configured: str) -> set[str]:
        """Start, and return the pools that admit graders without secrets."""
        pools = Pools(self.store.pools, self.store.graders, self.store.courses)
        await pools.begin(configured, gateway_pool="remote")
        return {state.pool.id for state in await pools.all() if state.pool.original_graders}

    async def write(self, name: str, document: Document) -> None:
        await self.database["worker_node"].insert_one({"_id": name, **document})

    async def findings(self) -> list[str]:
        mongodb = self.settings.mongodb
        inspection = await Inspection.take(mongodb.dsn, primary=mongodb.primary, logs=mongodb.logs, within=20)
        return [f"{finding.level} {finding.text}" for finding in identities(inspection, self.settings)]


@pytest.fixture
async def start(ingest_settings: IngestSettings) -> AsyncIterator[Start]:
    name = f"t{token_hex(4)}"
    mongodb = ingest_settings.mongodb.model_copy(update={"primary": f"{name}_ag", "logs": f"{name}_logs"})
    settings = ingest_settings.model_copy(update={"mongodb": mongodb})
    client: AsyncMongoClient[Document] = AsyncMongoClient(mongodb.dsn, tz_aware=True)
    async with client, Store.connect(mongodb.dsn, primary=mongodb.primary, logs=mongodb.logs) as store:
        yield Start(store, client[mongodb.primary], settings)


async def test_every_switch_is_off_in_a_new_store_and_stays_off(start: Start) -> None:
    assert await start.begin() == set()
    await start.write("odd", ORIGINAL)
    assert await start.begin() == set(), "no one can turn it on by writing to the store what a grader may write"
    assert await start.findings() == ["ok every pool demands a secret of each grader behind the API"]


async def test_an_older_store_admits_its_graders_of_the_original_until_an_operator_decides(start: Start) -> None:
    await start.write("old1", ORIGINAL)
    await start.write("old2", {**ORIGINAL, "pool": "lab", "slots": 1, "gateway": "api:1", "extended": False})
    await start.write("ours1", OURS)
    await start.write("native", {**OURS, "joined_at": None, "pool": "native"})
    with capture_logs() as logs:
        assert await start.begin() == {"default", "lab", "remote"}
    assert [(line["pool"], line["graders"]) for line in logs if "pool" in line] == [
        ("default", ["old1"]),
        ("lab", ["old2"]),
        ("remote", ["old1"]),
    ]
    assert [finding.split(" (")[0] for finding in await start.findings()] == [
        f"warning pool {pool} admits graders without a secret" for pool in ("default", "lab", "remote")
    ]

    pools = Pools(start.store.pools, start.store.graders, start.store.courses)
    await pools.set("default", original_graders=False)
    assert await start.begin("gpu") == {"lab", "remote", "gpu"}


async def test_running_graders_of_an_earlier_version_have_a_grace(start: Start) -> None:
    await start.write("ours1", OURS)
    await start.write("polling", {**OURS, "joined_at": None, "gateway": "api:1", "extended": True})
    await start.write("gone", {**OURS, "alive": False})
    await start.write("native", {**OURS, "joined_at": None})
    assert await start.begin() == set()
    graders = await start.store.graders.all()
    assert {grader.id for grader in graders if grader.has_grace(datetime.now(UTC))} == {"ours1", "polling"}


async def test_the_doctor_misses_an_operators_token(start: Start) -> None:
    start.settings = start.settings.model_copy(update={"operator_token": None})
    await start.begin()
    assert "no operators' token" in (await start.findings())[-1]

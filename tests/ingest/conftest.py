"""Fixtures: one ingest service for all tests, and a fresh course for each test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from secrets import token_hex
from typing import Any

import pytest
from harness import METRICS_TOKEN, Client, Place, free_port, stage, until
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from broadway import connections
from broadway.ingest import serve as ingest
from broadway.mongo.store import Store
from broadway.rabbit.client import Rabbit
from broadway.service import Stop
from broadway.settings.programs import IngestSettings

Database = AsyncDatabase[dict[str, Any]]
Places = Callable[[], contextlib.AbstractAsyncContextManager[Place]]


@pytest.fixture(scope="session")
async def shared_place(places: Places) -> AsyncIterator[Place]:
    async with places() as opened:
        yield opened


@pytest.fixture(scope="session")
def ingest_settings(shared_place: Place) -> IngestSettings:
    name = shared_place.name
    return IngestSettings.model_validate(
        {
            "amqp_url": shared_place.amqp_url,
            "grader_amqp_url": "amqp://graders@broker.example/",
            "mongodb": {"dsn": shared_place.mongodb_dsn, "primary": f"{name}_ag", "logs": f"{name}_logs"},
            "token": "cluster-token",
            "operator_token": "operator-token",
            "original_graders": "default",
            "bind_addr": "127.0.0.1",
            "bind_port": free_port(),
            "heartbeat_interval": 7,
            "max_job_seconds": 1000,
            "log": {"dir": ""},
            "metrics_token": METRICS_TOKEN,
            "http": {"failures_per_minute": 1_000_000},  # all tests come from one address
        }
    )


@pytest.fixture(scope="session")
async def opened(ingest_settings: IngestSettings) -> AsyncIterator[connections.Connections]:
    stop = Stop()
    async with contextlib.AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("broadway.ingest.v1.polling.PENDING_WAIT", 0.1)  # seconds, for which several tests would wait
        opened = await stack.enter_async_context(connections.opened(ingest_settings, service="test"))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(stop.set)
        serving = ingest.serve(ingest_settings, store=opened.store, rabbit=opened.rabbit, stop=stop, answer_within=20)
        group.create_task(serving)  # on a busy machine, too, an answer to a delivery waits for its decision
        async with Client.connect(f"http://127.0.0.1:{ingest_settings.bind_port}") as client:
            await until(client.is_ready)
        yield opened


@pytest.fixture(scope="session")
async def client(opened: connections.Connections, ingest_settings: IngestSettings) -> AsyncIterator[Client]:
    assert opened.rabbit.is_connected
    async with Client.connect(f"http://127.0.0.1:{ingest_settings.bind_port}") as client:
        yield client


@pytest.fixture(scope="session")
def store(opened: connections.Connections) -> Store:
    return opened.store


@pytest.fixture(scope="session")
def rabbit(opened: connections.Connections) -> Rabbit:
    return opened.rabbit


@pytest.fixture(scope="session")
async def database(ingest_settings: IngestSettings) -> AsyncIterator[Database]:
    """The primary database, to check the stored documents."""
    mongodb = ingest_settings.mongodb
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb.dsn, tz_aware=True)
    async with client:
        yield client[mongodb.primary]


@contextlib.asynccontextmanager
async def _new_course(database: Database) -> AsyncIterator[str]:
    """Store a course, and remove it afterwards: a service that starts declares the queues of all courses."""
    name = token_hex(4)
    await database["course"].insert_one(
        {"_id": f"cs{name}", "tokens": [f"staff-{name}", f"second-{name}"], "query_tokens": [f"query-{name}"]}
    )
    yield f"cs{name}"
    await database["course"].delete_one({"_id": f"cs{name}"})


@pytest.fixture
async def course(database: Database) -> AsyncIterator[str]:
    async with _new_course(database) as name:
        yield name


@pytest.fixture(scope="module")
async def course_of_module(database: Database) -> AsyncIterator[str]:
    """A course for tests that leave it as it is."""
    async with _new_course(database) as name:
        yield name


@pytest.fixture
async def other_course(database: Database) -> AsyncIterator[str]:
    async with _new_course(database) as name:
        yield name


@pytest.fixture(scope="session")
async def fuzzed_course(client: Client, database: Database) -> AsyncIterator[str]:
    """A course with an assignment that accepts runs of every kind."""
    async with _new_course(database) as name:
        both: dict[str, Any] = {f"{kind}_processing_pipeline": [stage()] for kind in ("pre", "post")}
        await client.register(name, "ready", students=[stage()], **both)
        yield name

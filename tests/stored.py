"""Fixtures: a store with its own databases, and a course in it for each test."""

import contextlib
from collections.abc import AsyncIterator, Callable
from secrets import token_hex
from typing import Any

import pytest
from harness import Place
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from broadway.mongo.store import Store

Places = Callable[[], contextlib.AbstractAsyncContextManager[Place]]


@pytest.fixture(scope="session")
async def shared_place(places: Places) -> AsyncIterator[Place]:
    async with places() as opened:
        yield opened


@pytest.fixture(scope="session")
async def store(shared_place: Place) -> AsyncIterator[Store]:
    name = shared_place.name
    async with Store.connect(shared_place.mongodb_dsn, primary=f"{name}_ag", logs=f"{name}_logs") as opened:
        yield opened


@pytest.fixture(scope="session")
async def database(shared_place: Place) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """The primary database, to read the stored documents."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(shared_place.mongodb_dsn, tz_aware=True)
    async with client:
        yield client[f"{shared_place.name}_ag"]


@pytest.fixture
async def course(database: AsyncDatabase[dict[str, Any]]) -> str:
    name = f"cs{token_hex(4)}"
    await database["course"].insert_one({"_id": name, "tokens": [f"staff-{name}"], "query_tokens": []})
    return name

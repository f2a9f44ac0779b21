"""A course with results, and visitors of its pages."""

import contextlib
from collections.abc import AsyncIterator, Callable
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from graded import World
from harness import Client, token_of
from pymongo.asynchronous.database import AsyncDatabase
from visitors import Visitor

from broadway.connections import Connections
from tests.ingest.http.conftest import doors  # noqa: F401 - a fixture

Database = AsyncDatabase[dict[str, Any]]
Visitors = Callable[[str], contextlib.AbstractAsyncContextManager[Visitor]]


@pytest.fixture
async def world(client: Client, course: str, opened: Connections) -> World:
    world = World(client, course, opened)
    await world.begin()
    return world


@pytest.fixture(scope="session")
async def kept_world(client: Client, database: Database, opened: Connections) -> World:
    """A course with results for tests that change nothing in it."""
    tag = token_hex(4)
    await database["course"].insert_one({"_id": f"cs{tag}", "tokens": [f"staff-{tag}"], "query_tokens": []})
    world = World(client, f"cs{tag}", opened)
    await world.begin()
    return world


@pytest.fixture(scope="session")
async def kept_staff(visit: Visitors, kept_world: World) -> AsyncIterator[Visitor]:
    async with visit(token_of(kept_world.course)) as visitor:
        yield visitor


@pytest.fixture(scope="session")
def visit(client: Client) -> Visitors:
    """Return a function that signs in with a token."""
    url = str(client.http.base_url)
    return lambda token: Visitor.signed_in(url, token)


@pytest.fixture
async def staff(visit: Visitors, world: World) -> AsyncIterator[Visitor]:
    async with visit(token_of(world.course)) as visitor:
        yield visitor


@pytest.fixture
async def ada(visit: Visitors, world: World) -> AsyncIterator[Visitor]:
    async with visit(world.tokens["ada"]) as visitor:
        yield visitor


@pytest.fixture
async def stranger(client: Client) -> AsyncIterator[Visitor]:
    async with httpx2.AsyncClient(base_url=client.http.base_url) as http:
        yield Visitor(http)

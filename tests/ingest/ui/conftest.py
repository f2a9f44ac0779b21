"""A course with results, and visitors of its pages."""

import contextlib
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from graded import World
from harness import Client, token_of
from visitors import Visitor

from broadway.connections import Connections
from broadway.settings.programs import IngestSettings
from tests.ingest.http.conftest import doors  # noqa: F401 - a fixture

Visitors = Callable[[str], contextlib.AbstractAsyncContextManager[Visitor]]


@pytest.fixture
async def world(client: Client, course: str, opened: Connections) -> World:
    world = World(client, course, opened)
    await world.begin()
    return world


@pytest.fixture(scope="session")
def visit(ingest_settings: IngestSettings, client: Client) -> Visitors:  # noqa: ARG001 - it waits for the service
    """Return a function that signs in with a token."""
    url = f"http://127.0.0.1:{ingest_settings.bind_port}"
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
async def stranger(ingest_settings: IngestSettings) -> AsyncIterator[Visitor]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{ingest_settings.bind_port}") as http:
        yield Visitor(http)

"""The API as a process, shared by all tests; it is drained of jobs after each test."""

from collections.abc import AsyncIterator
from itertools import count

import pytest
from compat.protocol import PATIENT, Places, Server, serving

_numbers = count(1)


@pytest.fixture(scope="session")
async def shared_server(places: Places, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with places() as place, serving(place, tmp_path_factory.mktemp("compat"), *PATIENT) as server:
        await server.janitor.register()
        yield server


@pytest.fixture
async def server(shared_server: Server) -> AsyncIterator[Server]:
    yield shared_server
    await shared_server.drain()


@pytest.fixture
def name() -> str:
    """A unique name for a test's assignment, worker or other object."""
    return f"n{next(_numbers)}"

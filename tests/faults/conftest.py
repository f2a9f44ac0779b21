"""The report of a session of the fault suite, and the servers that its worlds share."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from secrets import token_hex

import pytest
from faults.report import DOCUMENT, Report
from faults.servers import Parts, Servers, VirtualHost, private
from harness import IS_WHOLE, Place
from servers import Node


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    collected = Report()
    yield collected
    if IS_WHOLE:
        collected.write(DOCUMENT)


@pytest.fixture(scope="session")
def parts(places: Callable[[], contextlib.AbstractAsyncContextManager[Place]], broker_node: Node) -> Parts:
    """Return a function that opens a new part of the session's broker and store."""

    @contextlib.asynccontextmanager
    async def open_part() -> AsyncIterator[Servers]:
        login = broker_node.username, broker_node.password
        async with places() as place:
            names = place.environment
            host = VirtualHost(place.amqp_url, broker_node.management_url, login)
            primary, logs = names["BROADWAY_MONGODB_PRIMARY"], names["BROADWAY_MONGODB_LOGS"]
            yield Servers(host, place.mongodb_dsn, primary, logs)

    return open_part


@pytest.fixture(scope="module")
async def shared(parts: Parts) -> AsyncIterator[Servers]:
    """A part of the session's broker and store, for the worlds of a module."""
    async with parts() as opened:
        yield opened


@pytest.fixture
async def empty(parts: Parts) -> AsyncIterator[Servers]:
    """A part of the session's broker and store in which nothing is, for one test."""
    async with parts() as opened:
        yield opened


@pytest.fixture(scope="session")
async def struck(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """A broker and a store for worlds whose faults strike them; packing.TOGETHER has the files of their tests."""
    async with private(tmp_path_factory.mktemp("struck")) as servers:
        yield servers


@pytest.fixture(scope="module")
async def fragile(struck: Servers) -> Servers:
    """A part of the broker and the store that faults strike, for the worlds of a module."""
    return await struck.part(f"t{token_hex(4)}")

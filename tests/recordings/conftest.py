"""Fixtures: the kept recordings, and one of this version for all tests."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from secrets import token_hex

import pytest
from harness import IS_WHOLE, Place
from recordings.record import Served, record, served
from recordings.recording import Recording, directories, restore
from recordings.system import databases

from broadway.local.broker import Broker
from broadway.mongo.store import Store

MOST = None if IS_WHOLE else 6  # questions of a kind about each recording

Places = Callable[[], contextlib.AbstractAsyncContextManager[Place]]


@pytest.fixture(scope="session", params=directories(), ids=lambda directory: directory.name)
def recording(request: pytest.FixtureRequest) -> Recording:
    """Each kept recording."""
    directory: Path = request.param
    return Recording.load(directory)


@pytest.fixture(scope="session")
def latest() -> Recording:
    """The latest recording, which this version must match."""
    return Recording.load(directories()[-1])


@pytest.fixture(scope="session")
async def made(places: Places, broker_node: Broker, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A recording of this version, without answers."""
    async with places() as place:
        return await record(place, tmp_path_factory.mktemp("recorded"), broker_node, version="now")


@pytest.fixture(scope="module")
async def restored(places: Places, recording: Recording) -> AsyncIterator[Served]:
    """The ingest service over the documents of a recording, after it has answered questions about them."""
    async with places() as place, served(recording.documents, place, most=MOST) as answering:
        yield answering


@pytest.fixture(scope="session")
async def store(mongodb_dsn: str, recording: Recording) -> AsyncIterator[Store]:
    """A store with the documents of a recording, without any service that changes them."""
    names = databases(f"t{token_hex(4)}")
    await restore(recording.documents, mongodb_dsn, names)
    async with Store.connect(mongodb_dsn, primary=names["primary"], logs=names["logs"]) as opened:
        yield opened

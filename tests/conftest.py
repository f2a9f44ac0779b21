"""Real services for the whole session, and fresh names in them for every test."""

import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from secrets import token_hex

import docker
import forks
import httpx2
import hypothesis
import parsers
import pytest
import structlog
from crashing import Crash, armed
from harness import IS_WHOLE, PATIENCE, Place
from images import BUSYBOX, busybox
from packing import ByFile, needs_engine, path_of, rank
from servers import Node, dsn, node
from xdist.remote import Producer

from broadway.grader.sandbox.mounts import detach
from broadway.local.engine import Engine, engine, mounts_below

# Examples have no deadline: other sessions use the machine too, so durations say nothing. Each session has new ones.
hypothesis.settings.register_profile("broadway", deadline=None, max_examples=100 if IS_WHOLE else 50)
hypothesis.settings.load_profile("broadway")

# The default renderer spends a tenth of a second per error on frames and their variables.
*_before, _ = structlog.get_config()["processors"]
_renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*_before, _renderer])

parsers.build_once()
gc.disable()  # until all tests are collected: a third of that time would go into looking for garbage

Places = Callable[[], contextlib.AbstractAsyncContextManager[Place]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests: long ones first, and tests that start their own engines before those with the session's.

    A daemon that starts rewrites the packet filters of the others. Tests marked ``long`` run in ``make faults`` only.
    """
    for item in items:
        if "docker_host" in getattr(item, "fixturenames", ()) and not needs_engine(path_of(item)):
            raise pytest.UsageError(f"{item.nodeid} needs the engine, and is not in packing.ENGINE")
    deselected = [] if IS_WHOLE else [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=deselected)
    items[:] = sorted((item for item in items if item not in deselected), key=_order)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Spare the collector of garbage the thousands of tests and modules, which stay until the end."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _order(item: pytest.Item) -> tuple[int, bool]:
    return rank(path_of(item)), "docker_host" in getattr(item, "fixturenames", ())


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def _unmounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Detach the mounts that killed graders leave to the next grader on their host; in tests there is no next one.

    Each remaining mount slows the start of every later container on the machine.
    """
    yield
    for point in mounts_below(tmp_path_factory.getbasetemp()):
        detach(Path(point))


@pytest.fixture(scope="session", autouse=True)
def _no_fork_server_stays() -> Iterator[None]:
    yield
    forks.close()


@pytest.fixture
def crash(tmp_path: Path) -> Iterator[Crash]:
    """Make the next task that reaches a point fail there."""
    with armed(tmp_path) as crash:
        yield crash


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
async def broker_node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with node(tmp_path_factory.mktemp("broker")) as opened:
        yield opened


@pytest.fixture(scope="session")
async def mongodb_dsn(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with dsn(tmp_path_factory.mktemp("store")) as opened:
        yield opened


@pytest.fixture(scope="session")
async def docker_engine() -> AsyncIterator[Engine]:
    # Images and layers stay, so that the next session starts faster.
    async with engine(Path(".broadway/engine")) as running:
        yield running


@pytest.fixture(scope="session")
def docker_host(docker_engine: Engine) -> str:
    return docker_engine.docker_host


@pytest.fixture(scope="session")
def api(docker_host: str) -> Iterator[docker.APIClient]:
    client = docker.APIClient(docker_host, version="auto")
    yield client
    client.close()


@pytest.fixture(scope="session")
def busybox_image(api: docker.APIClient) -> str:
    repository, _, tag = BUSYBOX.partition(":")
    api.import_image_from_data(busybox(), repository=repository, tag=tag)
    return BUSYBOX


@pytest.fixture(scope="session")
def places(broker_node: Node, mongodb_dsn: str) -> Places:
    """Return a function that opens a new place, for tests that share one or need it beyond a single test."""

    @contextlib.asynccontextmanager
    async def open_place() -> AsyncIterator[Place]:
        name = f"t{token_hex(4)}"
        auth = (broker_node.username, broker_node.password)
        async with httpx2.AsyncClient(base_url=broker_node.management_url, auth=auth, timeout=PATIENCE) as management:
            (await management.put(f"/api/vhosts/{name}")).raise_for_status()
            grant = {"configure": ".*", "write": ".*", "read": ".*"}
            url = f"/api/permissions/{name}/{broker_node.username}"
            (await management.put(url, json=grant)).raise_for_status()
            yield Place(broker_node.amqp_url.rpartition("/")[0] + f"/{name}", mongodb_dsn, name)
            (await management.delete(f"/api/vhosts/{name}")).raise_for_status()

    return open_place


@pytest.fixture
async def place(places: Places) -> AsyncIterator[Place]:
    async with places() as opened:
        yield opened

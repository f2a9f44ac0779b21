"""A real browser for all of these tests, and a course whose pages it opens."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from graded import World
from harness import Cluster
from playwright.async_api import Browser, async_playwright
from walking import Walker

from broadway.settings.programs import IngestSettings
from tests.cluster.conftest import courses, module_place, patience, settings  # noqa: F401 - fixtures
from tests.cluster.conftest import own_cluster as cluster  # noqa: F401 - a fixture
from tests.ingest.conftest import (  # noqa: F401 - fixtures
    client,
    course,
    database,
    ingest_settings,
    opened,
    shared_place,
    store,
)

CHROMIUM = "/usr/bin/chromium-headless-shell"
# Every page is loaded once: optimized code of its scripts, and of the checks, would cost more than it saves.
FLAGS = ("--no-sandbox", "--disable-gpu", "--js-flags=--no-opt,--no-maglev")
PICTURES = "BROADWAY_PICTURES"  # the directory for the documents' pictures, when they are to be made


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        opened = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        await opened.close()


@pytest.fixture
async def walker(browser: Browser, ingest_settings: IngestSettings) -> AsyncIterator[Walker]:  # noqa: F811
    pictures = os.environ.get(PICTURES)
    async with contextlib.AsyncExitStack() as stack:
        walker = Walker(browser, f"http://127.0.0.1:{ingest_settings.bind_port}", Path(pictures) if pictures else None)
        stack.push_async_callback(walker.close)
        yield walker


@pytest.fixture
async def visitor(browser: Browser, cluster: Cluster) -> AsyncIterator[Walker]:  # noqa: F811
    """Browser windows for the pages of a whole cluster."""
    walker = Walker(browser, str(cluster.client.http.base_url).rstrip("/"))
    yield walker
    await walker.close()


@pytest.fixture
async def world(client, course, opened) -> World:  # type: ignore[no-untyped-def]  # noqa: ANN001, F811
    world = World(client, course, opened)
    await world.begin()
    return world

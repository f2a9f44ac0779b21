"""Fixtures: ingest services with limits of their own, on the store and the broker of all tests of ingest."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from doors import Door, Doors
from harness import METRICS_TOKEN, Client, free_port, until

from broadway import connections
from broadway.ingest import serve as ingest
from broadway.service import Stop
from broadway.settings.programs import IngestSettings


@pytest.fixture(scope="session")
def doors(opened: connections.Connections, ingest_settings: IngestSettings) -> Doors:
    """Return a function that starts a service with further settings."""

    @contextlib.asynccontextmanager
    async def start(**more: Any) -> AsyncIterator[Door]:
        given = ingest_settings.model_dump() | {"bind_port": free_port(), "metrics_token": METRICS_TOKEN} | more
        settings, stop = IngestSettings.model_validate(given), Stop()
        serving = asyncio.create_task(ingest.serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop))
        try:
            async with Client.connect(f"http://127.0.0.1:{settings.bind_port}") as client:
                await until(client.is_ready)
                yield Door(client, settings.bind_port)
        finally:
            stop.set()
            await serving

    return start


@pytest.fixture(scope="session")
async def door(doors: Doors) -> AsyncIterator[Door]:
    """A service with the default limits."""
    async with doors(http={}) as opened:
        yield opened

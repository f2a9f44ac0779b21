"""A complete cluster: the control plane in this process, graders with a fake runtime, and a client of v1."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness import METRICS_TOKEN, Client, Cluster, Graders, Place, free_port, until

from broadway import connections
from broadway.dispatcher import serve as dispatcher
from broadway.dispatcher.patience import PATIENCE, Patience
from broadway.ingest import serve as ingest
from broadway.results import serve as results
from broadway.service import Stop
from broadway.settings.programs import ApiSettings

COURSES = {
    "cs101": {"tokens": ["staff-101"], "query_tokens": ["query-101"]},
    "cs241": {"tokens": ["staff-241"], "query_tokens": ["query-241"]},
    "capped": {"tokens": ["staff-capped"], "concurrency": 2},
}


@pytest.fixture
def courses() -> dict[str, dict[str, object]]:
    return COURSES


@pytest.fixture
def settings(place: Place, tmp_path: Path, courses: dict[str, dict[str, object]]) -> ApiSettings:
    config = tmp_path / "courses.json"
    config.write_text(json.dumps(courses))
    return ApiSettings.model_validate(
        {
            "amqp_url": place.amqp_url,
            "mongodb": {"dsn": place.mongodb_dsn, "primary": f"{place.name}_ag", "logs": f"{place.name}_logs"},
            "course_config": config,
            "token": "cluster-token",
            "operator_token": "operator-token",
            "original_graders": "default,another",
            "bind_addr": "127.0.0.1",
            "bind_port": free_port(),
            "log": {"dir": ""},
            "metrics_token": METRICS_TOKEN,
            "http": {"failures_per_minute": 1_000_000},  # all tests come from one address
            "heartbeat_interval": 1,
            "reconcile_interval": 0.5,
            "retry_backoff": 0.05,
            "leader_ttl": 20,  # a busy machine's store may not answer for seconds
        }
    )


@pytest.fixture
def patience() -> Patience:
    """The dispatcher's delays before it repairs."""
    return PATIENCE


@pytest.fixture
async def cluster(place: Place, settings: ApiSettings, tmp_path: Path, patience: Patience) -> AsyncIterator[Cluster]:
    """The control plane, ready, without graders."""
    stop = Stop()
    async with contextlib.AsyncExitStack() as stack:
        opened = await stack.enter_async_context(connections.opened(settings, service="test"))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(stop.set)
        parts = {"store": opened.store, "rabbit": opened.rabbit, "stop": stop}
        group.create_task(results.serve(settings, **parts))
        group.create_task(dispatcher.serve(settings, **parts, patience=patience))
        # On a busy machine, too, the answer to a delivery must wait for the decision.
        group.create_task(ingest.serve(settings, **parts, answer_within=20))
        client = await stack.enter_async_context(Client.connect(f"http://127.0.0.1:{settings.bind_port}"))
        graders = await stack.enter_async_context(Graders.open(place.amqp_url, tmp_path / "graders"))
        await until(client.is_ready)
        yield Cluster(place, settings, client, graders, opened, stack)

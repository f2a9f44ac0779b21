"""A complete cluster: the control plane in this process, graders with a fake runtime, and a client of v1.

The tests of a module share the control plane; after each test, its graders, jobs and documents are removed.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from emptying import Contents
from harness import METRICS_TOKEN, Client, Cluster, Graders, Place, free_port, until
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from broadway import connections
from broadway.dispatcher import gauges, queue_probes
from broadway.dispatcher import serve as dispatcher
from broadway.dispatcher.patience import PATIENCE, Patience
from broadway.ingest import serve as ingest
from broadway.messages.batches import JobsQueued
from broadway.results import serve as results
from broadway.service import Stop
from broadway.settings.programs import ApiSettings

Courses = dict[str, dict[str, object]]
COURSES: Courses = {
    "cs101": {"tokens": ["staff-101"], "query_tokens": ["query-101"]},
    "cs241": {"tokens": ["staff-241"], "query_tokens": ["query-241"]},
    "capped": {"tokens": ["staff-capped"], "concurrency": 2},
}


@dataclass(frozen=True)
class Deployment:
    """The control plane of a module's tests."""

    place: Place
    settings: ApiSettings
    client: Client
    opened: connections.Connections
    contents: Contents


@pytest.fixture(scope="module")
def courses() -> Courses:
    return COURSES


@pytest.fixture(scope="module")
async def module_place(places: Any) -> AsyncIterator[Place]:
    async with places() as opened:
        yield opened


@pytest.fixture(scope="module")
def settings(module_place: Place, tmp_path_factory: pytest.TempPathFactory, courses: Courses) -> ApiSettings:
    config = tmp_path_factory.mktemp("courses") / "courses.json"
    config.write_text(json.dumps(courses))
    return ApiSettings.model_validate(
        {
            "amqp_url": module_place.amqp_url,
            "mongodb": {
                "dsn": module_place.mongodb_dsn,
                "primary": f"{module_place.name}_ag",
                "logs": f"{module_place.name}_logs",
            },
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


@pytest.fixture(scope="module")
def patience() -> Patience:
    """The dispatcher's delays before it repairs."""
    return PATIENCE


@pytest.fixture(scope="module")
def often() -> Iterator[None]:
    """Let the dispatcher count jobs and probe queues every moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gauges, "INTERVAL", 0.3)
        patch.setattr(gauges, "COUNT_INTERVAL", 0.5)
        patch.setattr(queue_probes, "INTERVAL", 0.5)
        yield


@pytest.fixture
def few_per_message(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let messages have few jobs, so that few jobs make several messages; return how many."""
    monkeypatch.setattr(JobsQueued, "most", 5)
    return JobsQueued.most


@pytest.fixture(scope="module")
async def deployment(module_place: Place, settings: ApiSettings, patience: Patience) -> AsyncIterator[Deployment]:
    async with deployed(module_place, settings, patience) as opened:
        yield opened


@pytest.fixture
async def cluster(deployment: Deployment, tmp_path: Path) -> AsyncIterator[Cluster]:
    """The control plane, without graders and documents."""
    settings = dict(deployment.settings)
    async with in_use(deployment, tmp_path) as cluster:
        yield cluster
        await deployment.contents.cancel()
    for name, value in settings.items():
        setattr(deployment.settings, name, value)
    await deployment.contents.remove()


@pytest.fixture
async def own_cluster(
    place: Place, tmp_path: Path, settings: ApiSettings, patience: Patience
) -> AsyncIterator[Cluster]:
    """A cluster for one test, which may break it."""
    names = {"primary": f"{place.name}_ag", "logs": f"{place.name}_logs"}
    own = {
        "amqp_url": SecretStr(place.amqp_url),
        "mongodb": settings.mongodb.model_copy(update=names),
        "bind_port": free_port(),
    }
    async with (
        deployed(place, settings.model_copy(update=own), patience) as deployment,
        in_use(deployment, tmp_path) as cluster,
    ):
        yield cluster


@contextlib.asynccontextmanager
async def deployed(place: Place, settings: ApiSettings, patience: Patience) -> AsyncIterator[Deployment]:
    """Run the control plane, until it is ready and beyond."""
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
        mongo = await stack.enter_async_context(AsyncMongoClient[dict[str, Any]](settings.mongodb.dsn))
        await until(client.is_ready)
        yield Deployment(place, settings, client, opened, await Contents.of(place, client, mongo))


@contextlib.asynccontextmanager
async def in_use(deployment: Deployment, directory: Path) -> AsyncIterator[Cluster]:
    """Yield a deployment with graders for a test."""
    place, settings, client, opened = deployment.place, deployment.settings, deployment.client, deployment.opened
    async with contextlib.AsyncExitStack() as stack:
        graders = await stack.enter_async_context(Graders.open(place.amqp_url, directory / "graders"))
        yield Cluster(place, settings, client, graders, opened, stack)

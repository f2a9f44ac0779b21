"""`broadway doctor` with all parts available, and with each part unavailable or silent."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness import PATIENCE, Cluster, broadway, free_port, until
from pymongo import AsyncMongoClient
from servers import Node

from broadway.messages.events import GraderHeartbeat
from broadway.messages.topology import DISPATCHER, RESULTS
from broadway.settings.programs import ApiSettings

WITHIN = "12"  # seconds for each part: a busy machine is not a fault


@dataclass(frozen=True)
class Diagnosis:
    exit_code: int
    findings: list[dict[str, str]]

    def levels(self, check: str) -> list[str]:
        return [finding["level"] for finding in self.findings if finding["check"] == check]

    def about(self, check: str) -> str:
        return "\n".join(f"{f['text']}; {f['advice']}" for f in self.findings if f["check"] == check)

    @property
    def problems(self) -> set[str]:
        return {finding["check"] for finding in self.findings if finding["level"] == "problem"}


@pytest.fixture(scope="module")
def settings(settings: ApiSettings) -> ApiSettings:
    """Heartbeats with long intervals: graders stay alive during the checks, even on a busy machine."""
    return settings.model_copy(update={"heartbeat_interval": 20})


async def run(*arguments: str, **environment: str) -> tuple[int, str]:
    # No engine, even if this machine has one.
    async with asyncio.timeout(PATIENCE):
        done = await broadway("doctor", *arguments, DOCKER_HOST="unix:///nowhere/docker.sock", **environment)
    return done.exit_code, done.stdout


async def examine(cluster: Cluster, *options: str, **environment: str) -> Diagnosis:
    server = str(cluster.client.http.base_url).rstrip("/")
    places = {"BROADWAY_SERVER": server, "BROADWAY_HEARTBEAT_INTERVAL": "10", **cluster.place.environment}
    code, output = await run("--json", "--timeout", WITHIN, *options, **{**places, **environment})
    return Diagnosis(code, json.loads(output))


@asynccontextmanager
async def silence() -> AsyncIterator[int]:
    """Open a port that accepts connections and never answers."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def moved(part: str, port: int) -> Mapping[str, str]:
    """Return the setting that makes the doctor check a part at a wrong port."""
    return {
        "api": {"BROADWAY_SERVER": f"http://127.0.0.1:{port}"},
        "broker": {"BROADWAY_AMQP_URL": f"amqp://guest:guest@127.0.0.1:{port}/"},
        "store": {"BROADWAY_MONGODB_DSN": f"mongodb://127.0.0.1:{port}"},
    }[part]


async def healthy(cluster: Cluster) -> None:
    cluster.graders.start("host1")

    async def is_known() -> bool:
        return bool(await cluster.opened.store.graders.alive())

    async def is_led() -> bool:
        states = [await cluster.opened.rabbit.queue_state(queue) for queue in (RESULTS, DISPATCHER)]
        return all(state is not None and state.consumers > 0 for state in states)

    await until(is_known)
    await until(is_led)


async def test_a_healthy_deployment_has_no_problems(cluster: Cluster, broker_node: Node) -> None:
    await healthy(cluster)
    address = broker_node.management_url.removeprefix("http://")
    management = f"http://{broker_node.username}:{broker_node.password}@{address}"

    well = await examine(cluster, "--management-url", management)

    assert well.problems == set()
    assert well.exit_code == 0
    for check in ("config", "api", "broker", "topology", "consumers", "pools", "runtimes", "letters", "clock"):
        assert set(well.levels(check)) == {"ok"}, well.about(check)
    assert well.levels("engine") == ["warning"], "a host without a grader needs none"
    assert "no alarm" in well.about("broker")
    assert "default has 1 live graders" in well.about("pools")

    code, text = await run(
        **{"BROADWAY_SERVER": str(cluster.client.http.base_url).rstrip("/"), **cluster.place.environment}
    )
    assert code == 0
    assert len(text.splitlines()) == len(well.findings), "a line each"
    assert broker_node.password not in text


@pytest.mark.parametrize("part", ["api", "broker", "store"])
async def test_an_unavailable_part_is_named_and_the_others_are_checked(cluster: Cluster, part: str) -> None:
    await healthy(cluster)
    sick = await examine(cluster, **moved(part, free_port()))
    assert sick.exit_code == 1
    assert sick.problems == {part}
    assert "127.0.0.1" in sick.about(part)
    for other in {"api", "broker", "store"} - {part}:
        assert "problem" not in sick.levels(other)
        assert sick.levels(other)


async def test_silent_parts_are_named_after_a_timeout(cluster: Cluster) -> None:
    async with silence() as port:
        silent = {name: value for part in ("api", "broker", "store") for name, value in moved(part, port).items()}
        sick = await examine(cluster, "--timeout", "2", **silent)
    assert sick.problems == {"api", "broker", "store"}


@pytest.mark.long
@pytest.mark.parametrize("part", ["api", "broker", "store"])
async def test_a_silent_part_is_named_after_a_timeout(cluster: Cluster, part: str) -> None:
    await healthy(cluster)
    async with silence() as port:
        sick = await examine(cluster, **moved(part, port))
    assert sick.problems == {part}


async def test_missing_graders_dead_letters_and_missing_indexes_are_reported(cluster: Cluster) -> None:
    store = cluster.opened.store
    await store.dead_letters.put(message_id="1", subject="x", queue="broadway.results", reason="odd", body=b"")
    async with AsyncMongoClient[dict[str, Any]](cluster.place.mongodb_dsn) as client:
        await client[f"{cluster.place.name}_ag"]["grading_job"].drop_index("backlog")

    sick = await examine(cluster)

    assert sick.problems == {"pools"}
    assert "default has no live grader: capped, cs101, cs241 will wait" in sick.about("pools")
    assert "1 dead letter; the newest in broadway.results: odd" in sick.about("letters")
    assert "grading_job.backlog" in sick.about("store")


async def test_different_runtimes_within_a_pool_are_a_warning(cluster: Cluster) -> None:
    await healthy(cluster)
    beat = GraderHeartbeat(
        grader_id="host2", hostname="h", pool="default", slots=1, runtime="runsc", sent_at=datetime.now(UTC)
    )
    # In the future, so that the grader is alive however long the doctor takes to start.
    await cluster.opened.store.graders.beat([beat], now=datetime.now(UTC) + timedelta(hours=1))

    sick = await examine(cluster)

    assert (sick.levels("runtimes"), sick.problems) == (["warning"], set())
    assert "the graders of default have different runtimes (default: host1; runsc: host2)" in sick.about("runtimes")


async def test_missing_services_and_queues_are_reported(places: Any) -> None:
    async with places() as place:
        nowhere = await run("--json", **place.environment, BROADWAY_SERVER=f"http://127.0.0.1:{free_port()}")
        empty = Diagnosis(nowhere[0], json.loads(nowhere[1]))
    assert empty.problems == {"api", "topology"}
    assert "broadway.results" in empty.about("topology")


async def test_invalid_settings_are_a_problem() -> None:
    code, text = await run("--json", "api", "--bind-port", "many", BROADWAY_SERVER=f"http://127.0.0.1:{free_port()}")
    ill = Diagnosis(code, json.loads(text))
    assert ill.problems == {"config", "api"}
    assert "--bind-port" in ill.about("config")


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["grader", "t", "g1", "--api-host", "http://127.0.0.1:{port}"], "http://127.0.0.1:{port}"),
        (["grader", "t", "g1", "--api-host", "ws://127.0.0.1:{port}"], "http://127.0.0.1:{port}"),
        (["api", "--bind-addr", "::1", "--bind-port", "{port}"], "http://[::1]:{port}"),
        (["ingest", "--bind-addr", "0.0.0.0", "--bind-port", "{port}"], "http://127.0.0.1:{port}"),
        (["--server", "http://localhost:{port}", "grader", "t", "g1"], "http://localhost:{port}"),
    ],
)
async def test_the_api_is_looked_for_where_the_programs_settings_place_it(arguments: list[str], address: str) -> None:
    port = str(free_port())
    _, output = await run("--json", "--timeout", "2", *(each.format(port=port) for each in arguments))
    (about,) = [finding["text"] for finding in json.loads(output) if finding["check"] == "api"]

    assert about.startswith(f"{address.format(port=port)} does not answer: ")


async def test_a_store_that_refuses_connections_is_not_taken_for_a_slow_one() -> None:
    port = free_port()
    dsn = f"mongodb://u:canary@127.0.0.1:{port},127.0.0.1:{port}/?serverSelectionTimeoutMS=60000"
    _, output = await run("--json", "--timeout", "1", "results", "--mongodb-dsn", dsn)
    (about,) = [finding["text"] for finding in json.loads(output) if finding["check"] == "store"]

    assert f"127.0.0.1:{port}: Connection refused" in about
    assert "canary" not in output

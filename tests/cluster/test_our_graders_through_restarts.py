"""Our own grader behind a gateway, while one of the two dies."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import Client, Place, free_port, stage, until
from processes import Processes, processes
from protocols import by_http, by_ws
from spools import spooled

# Long heartbeat intervals, so that jobs recover through reconnection and not through expired leases.
FLAGS = ("--token", "cluster-token", "--no-offer-amqp", "--retry-backoff", "0.05")
FLAGS += ("--reconcile-interval", "0.5", "--leader-ttl", "1.5")


@dataclass
class Site:
    processes: Processes
    client: Client
    port: int
    heartbeat: str  # seconds between heartbeats
    end: Path  # the file that ends the jobs

    async def start_api(self) -> None:
        await self.processes.service(
            *("api", *FLAGS, "--heartbeat-interval", self.heartbeat, "--bind-addr", "127.0.0.1"),
            *("--bind-port", str(self.port), "--course-config", "courses.json"),
        )
        await until(self.client.is_ready)

    async def submit(self) -> str:
        await self.client.register("cs241", "mp1", students=[stage("until", str(self.end))])
        return await self.client.submit("cs241", "mp1", students=1)

    async def until_running(self, grader: str) -> None:
        """Wait until the grader itself runs the job, which the API counts as started a moment earlier."""
        await until(lambda: '"event": "running"' in self.processes.log(grader))


@pytest.fixture
def heartbeat() -> str:
    return "3"


@pytest.fixture
async def site(place: Place, tmp_path: Path, heartbeat: str) -> AsyncIterator[Site]:
    port = free_port()
    async with (
        processes(tmp_path / "site", place.environment) as running,
        Client.connect(f"http://127.0.0.1:{port}") as client,
    ):
        (running.directory / "courses.json").write_text(json.dumps({"cs241": {"tokens": ["staff-241"]}}))
        site = Site(running, client, port, heartbeat, tmp_path / "end")
        await site.start_api()
        yield site


@pytest.fixture(params=["http", "ws"])
def address(request: pytest.FixtureRequest, site: Site) -> str:
    return f"{request.param}://127.0.0.1:{site.port}"


async def outcomes(site: Site, run_id: str) -> list[tuple[str, int]]:
    run = await site.client.finished("cs241", run_id)
    return [(job["outcome"], job["attempts"]) for job in run["jobs"]]


@pytest.mark.parametrize(
    ("address", "ends"),
    [
        ("http", "while the API is down"),
        ("ws", "after it is back"),
        pytest.param("ws", "while the API is down", marks=pytest.mark.long),
        pytest.param("http", "after it is back", marks=pytest.mark.long),
    ],
    indirect=["address"],
)
async def test_a_job_outlives_its_api(site: Site, address: str, ends: str) -> None:
    await site.processes.attached_grader("host1", address)
    run_id = await site.submit()
    await site.until_running("host1")

    await site.processes.kill("api")
    if ends == "while the API is down":
        site.end.touch()
        await until(lambda: spooled(site.processes.directory / "work" / "host1"))
    await site.start_api()
    site.end.touch()

    assert await outcomes(site, run_id) == [("succeeded", 1)]
    assert await outcomes(site, await site.submit()) == [("succeeded", 1)], "the grader goes on"


@by_ws
async def test_an_undelivered_result_is_reported_after_a_restart(site: Site, address: str) -> None:
    await site.processes.attached_grader("host1", address)
    run_id = await site.submit()
    await site.until_running("host1")
    await site.processes.kill("api")
    site.end.touch()
    await until(lambda: spooled(site.processes.directory / "work" / "host1"))

    await site.processes.kill("host1")
    await site.start_api()
    await site.processes.attached_grader("host1", address)

    assert await outcomes(site, run_id) == [("succeeded", 1)]


@by_http
@pytest.mark.parametrize("heartbeat", ["1"])  # a job of a silent poller starts anew once its lease has expired
async def test_a_killed_graders_job_starts_elsewhere(site: Site, address: str) -> None:
    await site.processes.attached_grader("host1", address)
    run_id = await site.submit()
    await site.until_running("host1")
    await site.processes.attached_grader("host2", address)

    await site.processes.kill("host1")
    site.end.touch()

    assert await outcomes(site, run_id) == [("succeeded", 2)]


@by_ws
async def test_a_wrong_token_is_logged_and_ends_the_grader(site: Site, address: str) -> None:
    await site.processes.attached_grader("host1", address, token="guessed")

    process = site.processes.running["host1"]
    assert await process.wait() == 1
    assert "is it the cluster token, or a valid join token?" in site.processes.log("host1")

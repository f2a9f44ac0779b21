"""SIGKILL of every role in the middle of a run: the run completes, each job with one outcome."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from harness import IS_WHOLE, PATIENCE, Client, Place, free_port, stage, until
from processes import QUICK, QUICK_DISPATCHER, Processes, processes
from pymongo import AsyncMongoClient

from broadway.messages.topology import ready_queue
from broadway.mongo.store import Store
from broadway.rabbit.client import Rabbit

LEASE = timedelta(seconds=3)  # three heartbeats
MANY = 80 if IS_WHOLE else 24  # students of the run during which a service is killed
KILLED_AFTER = (10, 30, 50) if IS_WHOLE else (4, 12)  # jobs that have finished


Site = tuple[Processes, Client]
Places = Callable[[], contextlib.AbstractAsyncContextManager[Place]]


@contextlib.asynccontextmanager
async def services(place: Place, directory: Path) -> AsyncIterator[Site]:
    """Run all services as separate processes, without graders."""
    directory.mkdir(exist_ok=True)
    courses = directory / "courses.json"
    courses.write_text(json.dumps({"cs241": {"tokens": ["staff-241"]}}))
    port = free_port()
    async with processes(directory / "site", place.environment) as running:
        await running.service("results", *QUICK)
        await running.service("dispatcher", *QUICK_DISPATCHER)
        await running.service("ingest", "--course-config", str(courses), "--bind-port", str(port), *QUICK)
        async with Client.connect(f"http://localhost:{port}") as client:
            await until(client.is_ready)
            yield running, client


@pytest.fixture(scope="module")
async def shared_place(places: Places) -> AsyncIterator[Place]:
    async with places() as opened:
        yield opened


@pytest.fixture(scope="module")
async def shared(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with services(shared_place, tmp_path_factory.mktemp("kills")) as opened:
        yield opened


@pytest.fixture
async def site(shared: Site) -> AsyncIterator[Site]:
    """The services of the module; a test that kills one starts it again, and its graders have names of their own."""
    running, _ = shared
    before = set(running.running)
    yield shared
    for name in set(running.running) - before:
        await running.terminate(name)
    running.show()


@pytest.fixture
async def own_site(place: Place, tmp_path: Path) -> AsyncIterator[Site]:
    """Services that know of no grader yet."""
    async with services(place, tmp_path) as opened:
        yield opened


async def started(client: Client, run_id: str) -> list[str]:
    """Return the graders that have started a job of the run."""
    return [job["grader"] for job in (await client.describe("cs241", run_id))["jobs"] if job["grader"]]


async def all_started(client: Client, run_id: str) -> bool:
    return len(await started(client, run_id)) == len((await client.describe("cs241", run_id))["jobs"])


async def test_three_graders_share_a_run(site: Site, tmp_path: Path) -> None:
    running, client = site
    for name in ("host1", "host2", "host3"):
        await running.grader(name, slots=2)
    # No job ends before all have started, so that each grader runs as many jobs as it has slots.
    await client.register("cs241", "mp1", students=[stage("until", str(tmp_path / "end"))])
    run_id = await client.submit("cs241", "mp1", students=6)
    await until(lambda: all_started(client, run_id))
    (tmp_path / "end").touch()

    run = await client.finished("cs241", run_id)

    assert Counter(job["outcome"] for job in run["jobs"]) == {"succeeded": 6}
    assert Counter(job["grader"] for job in run["jobs"]) == {"host1": 2, "host2": 2, "host3": 2}


async def test_a_killed_graders_job_ends_on_another(site: Site, tmp_path: Path) -> None:
    running, client = site
    await running.grader("doomed", slots=1)
    await client.register("cs241", "mp1", students=[stage("until", str(tmp_path / "end"))])
    run_id = await client.submit("cs241", "mp1", students=1)
    await until(lambda: started(client, run_id))
    await running.grader("heir", slots=1)

    await running.kill("doomed")
    (tmp_path / "end").touch()
    run = await client.finished("cs241", run_id)

    (job,) = run["jobs"]
    assert (job["outcome"], job["grader"], job["attempts"]) == ("succeeded", "heir", 2)


@pytest.mark.parametrize("victim", ["dispatcher", "results"])
async def test_a_killed_service_delays_a_run_and_loses_nothing(site: Site, victim: str, shared_place: Place) -> None:
    running, client = site
    await running.grader(f"beside-{victim}", slots=4)
    await client.register(
        "cs241",
        "mp1",
        students=[stage("sleep", "0.05")],
        pre_processing_pipeline=[stage("exit", "0")],
        post_processing_pipeline=[stage("exit", "0")],
    )
    run_id = await client.submit("cs241", "mp1", students=MANY)
    for part in KILLED_AFTER:
        await until(lambda at_least=part: has_finished(client, run_id, at_least))
        await running.kill(victim)
        await running.service(victim, *(QUICK_DISPATCHER if victim == "dispatcher" else QUICK))

    run = await client.finished("cs241", run_id)

    assert Counter(job["outcome"] for job in run["jobs"]) == {"succeeded": MANY + 2}
    assert run["state"] == "finished"
    async with Store.connect(
        shared_place.mongodb_dsn, primary=f"{shared_place.name}_ag", logs=f"{shared_place.name}_logs", service="test"
    ) as store:
        assert await store.dead_letters.count() == 0


async def test_a_new_dispatcher_discards_what_the_last_one_left_ready(own_site: Site, place: Place) -> None:
    """It does not know which jobs that was, and hands them over once more."""
    running, client = own_site
    await client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await client.submit("cs241", "mp1", students=3)
    async with Rabbit.connect(place.amqp_url, service="test") as rabbit:

        async def ready() -> int:
            state = await rabbit.queue_state(ready_queue("default"))
            return state.waiting if state else 0

        await until(ready)
        await running.kill("dispatcher")
        await running.service("dispatcher", *QUICK_DISPATCHER)
        await until(lambda: "jobs of an earlier dispatcher are handed over again" in running.log("dispatcher"))
        await until(ready)
        assert await ready() == 1, "one job for no slot, and no second message about it"

    await running.grader("host1", slots=1)
    run = await client.finished("cs241", run_id)
    assert [(job["outcome"], job["attempts"]) for job in run["jobs"]] == [("succeeded", 1)] * 3


@pytest.mark.long
async def test_a_job_that_runs_while_results_is_down_is_not_started_again(own_site: Site) -> None:
    running, client = own_site
    await running.grader("host1", slots=1)
    await running.grader("host2", slots=1)
    await client.register("cs241", "mp1", students=[stage("sleep", "9")])
    await running.kill("results")
    run_id = await client.submit("cs241", "mp1", students=1)
    await until(lambda: "outcome" in running.log("host1") + running.log("host2"))
    await running.service("results", *QUICK)

    (job,) = (await client.finished("cs241", run_id))["jobs"]

    assert (job["outcome"], job["attempts"]) == ("succeeded", 1)


async def has_had_no_lease_for(time: timedelta, place: Place) -> bool:
    """Return whether the lease of a running job expired that long ago."""
    async with AsyncMongoClient[dict[str, Any]](place.mongodb_dsn) as mongo:
        query = {"lease_expires_at": {"$lt": datetime.now(UTC) - time}}
        return await mongo[f"{place.name}_ag"]["grading_job"].find_one(query) is not None


async def test_a_job_whose_heartbeats_go_unrecorded_for_longer_than_a_lease_is_not_started_again(
    own_site: Site, place: Place, tmp_path: Path
) -> None:
    running, client = own_site
    await running.grader("host1", slots=1)
    await client.register("cs241", "mp1", students=[stage("until", str(tmp_path / "end"))])
    run_id = await client.submit("cs241", "mp1", students=1)
    await until(lambda: started(client, run_id))
    await running.kill("results")
    await until(lambda: has_had_no_lease_for(LEASE, place))  # the dispatcher has checked it meanwhile
    (tmp_path / "end").touch()
    await until(lambda: "outcome" in running.log("host1"))
    await running.service("results", *QUICK)

    (job,) = (await client.finished("cs241", run_id))["jobs"]

    assert (job["outcome"], job["attempts"]) == ("succeeded", 1)


async def has_finished(client: Client, run_id: str, at_least: int) -> bool:
    return sum(job["state"] == "finished" for job in (await client.describe("cs241", run_id))["jobs"]) >= at_least


async def test_a_frozen_graders_job_is_started_elsewhere_and_has_one_outcome(site: Site) -> None:
    running, client = site
    await running.grader("frozen", slots=1)
    await client.register("cs241", "mp1", students=[stage("sleep", "1")])
    run_id = await client.submit("cs241", "mp1", students=1)
    await until(lambda: started(client, run_id))
    process = running.running["frozen"]
    process.send_signal(19)  # SIGSTOP
    await running.grader("heir", slots=1)

    run = await client.finished("cs241", run_id)
    process.send_signal(18)  # SIGCONT: its own outcome comes late
    assert await running.terminate("frozen") == 0

    (job,) = run["jobs"]
    assert (job["outcome"], job["grader"]) == ("succeeded", "heir")
    assert (await client.describe("cs241", run_id))["jobs"][0] == job


async def test_a_draining_grader_finishes_or_returns_its_jobs(site: Site, tmp_path: Path) -> None:
    running, client = site
    await running.grader("leaving", slots=2)
    await client.register("cs241", "quick", students=[stage("sleep", "1")])
    await client.register("cs241", "slow", students=[stage("until", str(tmp_path / "end"))])
    quick = await client.submit("cs241", "quick", students=1)
    slow = await client.submit("cs241", "slow", students=1)
    await until(lambda: started(client, quick))
    await until(lambda: started(client, slow))

    code = await asyncio.wait_for(running.terminate("leaving"), PATIENCE)
    (tmp_path / "end").touch()
    await running.grader("heir", slots=2)

    assert code == 0
    (job,) = (await client.finished("cs241", quick))["jobs"]
    assert (job["outcome"], job["grader"], job["attempts"]) == ("succeeded", "leaving", 1)
    (job,) = (await client.finished("cs241", slow))["jobs"]
    assert (job["outcome"], job["grader"], job["attempts"]) == ("succeeded", "heir", 1)

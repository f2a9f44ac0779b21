"""Graders that cannot reach the broker, written from the original's protocols alone, next to native graders."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
import websockets
from harness import PATIENCE, Client, Cluster, Place, free_port, stage, until
from pollers import BEAT, CLUSTER, Poller, result
from processes import QUICK, QUICK_DISPATCHER, Processes, processes
from websockets.asyncio.client import ClientConnection

from broadway.ingest.v1 import polling
from broadway.runtime import metrics
from broadway.service import background

PATIENT = ("--heartbeat-interval", "20")  # for tests without silent graders


def poller(cluster: Cluster, name: str) -> Poller:
    return Poller(cluster.client.http, name)


@contextlib.asynccontextmanager
async def connection(cluster: Cluster, name: str, *, register: bool = True) -> AsyncIterator[ClientConnection]:
    url = str(cluster.client.http.base_url).replace("http://", "ws://").rstrip("/")
    path = f"{url}/api/v1/worker_ws/{name}"
    async with websockets.connect(path, additional_headers=CLUSTER, ping_interval=BEAT) as socket:
        if register:
            await send(socket, "register", {"hostname": f"{name}.example"})
            assert await receive(socket) == {"success": True}
        yield socket


async def send(socket: ClientConnection, kind: str, args: dict[str, Any]) -> None:
    await socket.send(json.dumps({"type": kind, "args": args}))


async def receive(socket: ClientConnection) -> Any:
    async with asyncio.timeout(PATIENCE):
        return json.loads(await socket.recv())


async def test_a_poll_finds_jobs_submitted_just_before(cluster: Cluster) -> None:
    grader = poller(cluster, "poller")
    assert (await grader.register()).json() == {"status": "success", "data": {"heartbeat": 1}}
    assert await grader.poll() is None
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0", env={"A": "1"})])
    run_id = await cluster.client.submit("cs241", "mp1", students=3)

    jobs: list[Any] = []

    async def are_all_taken() -> bool:
        jobs.append(await grader.poll())
        return sum(job is not None for job in jobs) == 3

    await until(are_all_taken)  # the broker may have closed a connection
    jobs = [job for job in jobs if job]
    status = await cluster.client.status("cs241", run_id)
    assert [job["grading_job_id"] for job in jobs if job] == list(status["student_jobs_state"])
    assert set(status["student_jobs_state"].values()) == {"grading job is running"}
    assert jobs[0]
    assert jobs[0]["stages"][0]["env"]["A"] == "1"
    assert await grader.poll() is None
    for job in jobs:
        assert job
        assert (await grader.report(job["grading_job_id"])).json() == {"status": "success", "data": None}
    assert (await cluster.client.status("cs241", run_id))["state"] == "grading run is complete"


async def test_phases_follow_each_other_without_waiting(cluster: Cluster) -> None:
    grader = poller(cluster, "poller")
    await grader.register()
    await cluster.client.register(
        "cs241",
        "mp1",
        pre_processing_pipeline=[stage("exit", "0")],
        students=[stage("exit", "0")],
        post_processing_pipeline=[stage("exit", "0")],
    )
    run_id = await cluster.client.submit("cs241", "mp1", students=2)
    expected = [
        "students grading jobs have been scheduled",
        "students grading jobs have been scheduled",
        "post processing job has been scheduled",
        "grading run is complete",
    ]
    for state in expected:
        job = await grader.poll()
        assert job
        assert (await grader.report(job["grading_job_id"])).status_code == httpx2.codes.OK
        assert (await cluster.client.status("cs241", run_id))["state"] == state


async def test_graders_of_all_three_kinds_share_a_run(cluster: Cluster) -> None:
    native = cluster.graders.start("native", slots=1)
    polling = poller(cluster, "poller")
    await polling.register()
    async with connection(cluster, "socket") as socket:
        await cluster.client.register("cs241", "mp1", students=[stage("sleep", "0.05")])
        run_id = await cluster.client.submit("cs241", "mp1", students=12)
        pushed, polled = 0, 0

        async def serve_socket() -> None:
            nonlocal pushed
            while True:
                job = await receive(socket)
                pushed += 1
                await send(socket, "job_result", result(job["grading_job_id"]))

        async with background(serve_socket(), polling.beat_on()):
            while (await cluster.client.status("cs241", run_id))["state"] != "grading run is complete":
                if job := await polling.poll():
                    polled += 1
                    await polling.report(job["grading_job_id"])

    run = await cluster.client.finished("cs241", run_id)
    assert [job["outcome"] for job in run["jobs"]] == ["succeeded"] * 12
    assert {job["grader"] for job in run["jobs"]} == {"native", "poller", "socket"}
    assert pushed + polled + len(native.started) == 12


async def test_a_job_lost_with_its_connection_runs_elsewhere(cluster: Cluster) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    async with connection(cluster, "socket") as socket:
        run_id = await cluster.client.submit("cs241", "mp1", students=1)
        lost = await receive(socket)
    cluster.graders.start("native")

    run = await cluster.client.finished("cs241", run_id)

    (job,) = run["jobs"]
    assert (job["id"], job["outcome"], job["attempts"], job["grader"]) == (
        lost["grading_job_id"],
        "succeeded",
        2,
        "native",
    )


async def test_a_silent_poller_is_dead_and_its_job_runs_elsewhere(cluster: Cluster) -> None:
    grader = poller(cluster, "poller")
    await grader.register()
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    assert await grader.poll()
    cluster.graders.start("native")

    run = await cluster.client.finished("cs241", run_id)

    assert [(job["outcome"], job["attempts"], job["grader"]) for job in run["jobs"]] == [("succeeded", 2, "native")]


async def test_heartbeats_keep_a_job(cluster: Cluster) -> None:
    grader = poller(cluster, "poller")
    await grader.register()
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    job = await grader.poll()
    assert job
    leases = 0
    lease = cluster.settings.lease

    async def has_outlived_its_lease() -> bool:
        nonlocal leases
        assert (await grader.post("heartbeat")).content == b""
        (held,) = (await cluster.opened.store.jobs.get_many([job["grading_job_id"]])).values()
        assert held.started_at
        assert held.lease_expires_at
        leases += 1
        return held.lease_expires_at > held.started_at + 2 * lease

    await until(has_outlived_its_lease)
    await grader.report(job["grading_job_id"])
    run = await cluster.client.finished("cs241", run_id)
    assert [(job["outcome"], job["attempts"]) for job in run["jobs"]] == [("succeeded", 1)]


async def test_an_engine_that_crashed_is_not_the_students_failure(cluster: Cluster) -> None:
    grader = poller(cluster, "poller")
    await grader.register()
    cluster_logs = {"stdout": "The container crashed", "stderr": "no such image"}
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    job = await grader.poll()
    assert job
    await grader.report(job["grading_job_id"], success=False, results=[{"success": False}], logs=cluster_logs)
    cluster.graders.start("native")

    run = await cluster.client.finished("cs241", run_id)

    assert [(job["outcome"], job["attempts"], job["grader"]) for job in run["jobs"]] == [("succeeded", 2, "native")]


# Stages that the original's graders would run wrongly

UNTRUSTED = stage("sleep", "0.2", untrusted=True)
SCORING = stage("exit", "0", results="results.json")


async def test_a_job_says_that_its_pool_has_no_grader(cluster: Cluster) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)

    (job,) = (await cluster.client.describe("cs241", run_id))["jobs"]
    assert job["waits_for"] == "a grader of pool default: none is alive"


async def test_untrusted_stages_wait_for_a_grader_that_supports_them(cluster: Cluster) -> None:
    cluster.graders.start("native", slots=1)
    old, given = poller(cluster, "old"), []
    await old.register()
    await until(cluster.opened.store.graders.alive)
    await cluster.client.register("cs241", "mp1", students=[UNTRUSTED])
    run_id = await cluster.client.submit("cs241", "mp1", students=4)

    async with connection(cluster, "old-socket") as socket, background(old.beat_on()):
        while (await cluster.client.status("cs241", run_id))["state"] != "grading run is complete":
            given.append(await old.poll())
        await cluster.client.register("cs241", "mp2", students=[stage("exit", "0")])
        await cluster.graders.stop("native")
        await cluster.client.submit("cs241", "mp2", students=1)
        (trusted,) = (await receive(socket))["stages"]

    run = await cluster.client.finished("cs241", run_id)
    assert [(job["outcome"], job["attempts"], job["grader"]) for job in run["jobs"]] == [("succeeded", 1, "native")] * 4
    assert not any(given)
    assert trusted["entrypoint"] == ["exit", "0"], "the first that its socket was given"


@pytest.mark.parametrize(
    ("asked", "lacking"),
    [
        (UNTRUSTED, "untrusted stages"),
        pytest.param(SCORING, "untrusted stages", marks=pytest.mark.long),
        (stage("exit", "0", tty=False), "the key tty of a stage and stages without a terminal"),
    ],
    ids=["untrusted", "scoring", "without a terminal"],
)
async def test_a_job_waits_visibly_for_a_grader_that_can_run_it(
    cluster: Cluster, asked: dict[str, Any], lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "PENDING_WAIT", 0.3)
    old = poller(cluster, "old")
    await old.register()
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0"), asked])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)

    async with background(old.beat_on()):
        for _ in range(3):
            assert await old.poll() is None
        (job,) = (await cluster.client.describe("cs241", run_id))["jobs"]
        assert (job["state"], job["attempts"]) == ("queued", 0)
        assert job["waits_for"] == f"a grader of pool default with {lacking}"
        cluster.graders.start("native")
        (job,) = (await cluster.client.finished("cs241", run_id))["jobs"]
    assert (job["state"], job["grader"], job["attempts"], job["waits_for"]) == ("finished", "native", 1, "")


async def test_an_original_graders_socket_gets_no_untrusted_stages(cluster: Cluster) -> None:
    await cluster.client.register("cs241", "mp1", students=[UNTRUSTED])
    await cluster.client.register("cs241", "mp2", students=[stage("exit", "0", untrusted=False, read=[], logs=True)])
    async with connection(cluster, "old") as socket:
        run_id = await cluster.client.submit("cs241", "mp1", students=2)
        await cluster.client.submit("cs241", "mp2", students=1)
        (given,) = (await receive(socket))["stages"]
        run = await cluster.client.describe("cs241", run_id)

    assert [(job["state"], job["attempts"]) for job in run["jobs"]] == [("queued", 0)] * 2
    assert set(given) == {"image", "entrypoint", "env"}, "what says nothing is left out"


Two = tuple[Processes, list[Client], list[list[str]]]
Places = Callable[[], contextlib.AbstractAsyncContextManager[Place]]


@pytest.fixture(scope="module")
async def two(places: Places, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    """Two ingest services with one dispatcher and one results service, and the flags to restart the former."""
    directory = tmp_path_factory.mktemp("two")
    courses = directory / "courses.json"
    courses.write_text(json.dumps({"cs241": {"tokens": ["staff-241"]}}))
    async with contextlib.AsyncExitStack() as stack:
        place = await stack.enter_async_context(places())
        running = await stack.enter_async_context(processes(directory / "site", place.environment))
        await running.service("results", *QUICK)
        await running.service("dispatcher", *QUICK_DISPATCHER)
        ports = [free_port(), free_port()]
        own = ("--token", "cluster-token", "--original-graders", "default", *QUICK, *PATIENT)
        flags = [["--bind-port", str(port), *own] for port in ports]
        clients = [await stack.enter_async_context(Client.connect(f"http://localhost:{port}")) for port in ports]
        for name, each, client in zip(("one", "other"), flags, clients, strict=True):
            await running.start(name, sys.executable, "-m", "broadway.ingest", "--course-config", str(courses), *each)
            await until(client.is_ready)
        yield running, clients, flags


async def test_polls_heartbeats_and_results_may_reach_any_api_process(two: Two) -> None:
    _, (one, other), _ = two
    here, there = Poller(one.http, "roaming"), Poller(other.http, "roaming")
    await here.register()
    assert (await there.register()).status_code == httpx2.codes.BAD_REQUEST
    await one.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await other.submit("cs241", "mp1", students=2)

    for taker, reporter in ((here, there), (there, here)):
        job = await taker.poll()
        assert job
        assert (await reporter.post("heartbeat")).status_code == httpx2.codes.OK
        assert (await reporter.report(job["grading_job_id"])).status_code == httpx2.codes.OK

    run = await one.finished("cs241", run_id)
    assert [(job["outcome"], job["attempts"]) for job in run["jobs"]] == [("succeeded", 1)] * 2


async def test_a_result_is_accepted_after_the_api_was_killed(two: Two) -> None:
    running, (one, other), (flags, _) = two
    url = f"ws://localhost:{flags[1]}/api/v1/worker_ws/survivor"
    await other.register("cs241", "mp1", students=[stage("exit", "0")])
    async with websockets.connect(url, additional_headers=CLUSTER) as socket:
        await send(socket, "register", {"hostname": "survivor"})
        await receive(socket)
        run_id = await other.submit("cs241", "mp1", students=1)
        job = await receive(socket)
        await running.kill("one")
    await running.start("one", sys.executable, "-m", "broadway.ingest", *flags)
    await until(one.is_ready)

    async with websockets.connect(url, additional_headers=CLUSTER) as socket:
        await send(socket, "register", {"hostname": "survivor"})
        assert await receive(socket) == {"success": True}
        await send(socket, "job_result", result(job["grading_job_id"]))
        run = await other.finished("cs241", run_id)

    assert [(job["outcome"], job["attempts"], job["grader"]) for job in run["jobs"]] == [("succeeded", 1, "survivor")]


async def test_a_cancelled_job_brings_its_log_and_nothing_else(cluster: Cluster) -> None:
    grader = poller(cluster, "poller")
    await grader.register()
    await cluster.client.register("cs241", "mp1", students=[stage("exit"), stage("exit")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    job = (await until(grader.poll))["grading_job_id"]
    headers = {"Authorization": "Bearer staff-241"}
    answer = await cluster.client.http.post(f"/api/v2/courses/cs241/jobs/{job}/cancel", headers=headers)
    assert answer.is_success, answer.text
    refused = metrics.OUTCOMES_REFUSED.labels(metrics.Refusal.DUPLICATE)._value  # noqa: SLF001
    before = refused.get()

    results = [{"success": True, "streams": [[1, 1]]}, {"success": True, "streams": [[2, 1]]}]
    for text in ("one\ntwo\n", "another\n"):
        late = await grader.report(job, results=results, logs={"stdout": text, "stderr": ""})
        assert (late.status_code, late.json()["data"]["message"]) == (
            400,
            "cannot update job that is not in STARTED state",
        )
    stranger = poller(cluster, "stranger")
    await stranger.register()
    assert (await stranger.report(job)).status_code == 400

    log = await cluster.client.get(f"courses/cs241/jobs/{job}/log", token="staff-241", version="v2")
    lines = [(line["stage"], line["stream"], line["text"]) for line in log.json()["lines"]]
    assert lines == [(0, "stdout", "one"), (1, "stderr", "two")]
    (found,) = (await cluster.client.describe("cs241", run_id))["jobs"]
    assert (found["outcome"], found["reason"]) == ("cancelled", "cancelled by the course staff")
    assert refused.get() == before + 1, "of the stranger"

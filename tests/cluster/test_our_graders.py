"""Our own grader, over each of its links to a cluster."""

import asyncio
from datetime import UTC, datetime
from functools import partial

import pytest
from harness import PATIENCE, Cluster, free_port, stage, until
from protocols import by_http, by_ws
from pydantic import SecretStr

from broadway.grader import serve as grader
from broadway.readiness import judge
from broadway.runtime.health import Health

OUTCOMES = {
    ("exit", "0"): ("succeeded", ""),
    ("exit", "3"): ("failed", "stage 1 of 1: exit code 3"),
    ("oom",): ("out_of_memory", "stage 1 of 1: used more memory than its limit"),
    ("flood",): ("output_limit", "stage 1 of 1: wrote more output than its limit (0 bytes)"),
}


@pytest.fixture(autouse=True)
def _checks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let graders check their engine every moment."""
    monkeypatch.setattr(grader, "Health", partial(Health, interval=0.1))


@pytest.fixture(params=["http", "ws"])
def address(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """The address of an API that does not offer the broker, for both protocols."""
    cluster.settings.offer_amqp = False
    return f"{request.param}://127.0.0.1:{cluster.settings.bind_port}"


def address_of(cluster: Cluster, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{cluster.settings.bind_port}"


async def kinds(cluster: Cluster) -> dict[str, bool]:
    """Return the ids of live graders, and whether each is behind a gateway."""
    graders = await cluster.opened.store.graders.alive()
    return {grader.id: bool(grader.gateway) for grader in graders}


async def test_a_class_is_graded(cluster: Cluster, address: str) -> None:
    containers = cluster.graders.attach("host1", address, slots=2)
    await cluster.client.register(
        "cs241",
        "mp1",
        pre_processing_pipeline=[stage("print", "preparing")],
        students=[stage("write", "answer", "42"), stage("read", "answer"), stage("print", "hidden", logs=False)],
        post_processing_pipeline=[stage("print", "reporting")],
    )

    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=6))

    assert [(job["outcome"], job["attempts"]) for job in run["jobs"]] == [("succeeded", 1)] * 8
    assert len(containers.started) == 2 + 3 * 6
    log = (await cluster.client.get(f"grading_job_log/cs241/{run['jobs'][1]['id']}", token="staff-241")).json()["data"]
    assert "42" in log["stdout"]
    assert "hidden" not in log["stdout"]


async def test_operators_can_see_its_runtime(cluster: Cluster, address: str) -> None:
    cluster.graders.attach("host1", address, slots=1)

    async def runtimes() -> list[str]:
        headers = {"Authorization": "Bearer operator-token"}
        answer = await cluster.client.http.get("/api/v2/graders", headers=headers)
        return [each["runtime"] for each in answer.json()["graders"] if each["way"] != "broker"]

    await until(runtimes)
    assert await runtimes() == ["default"]


async def test_supervisors_can_see_that_it_is_ready(cluster: Cluster, address: str) -> None:
    cluster.graders.attach("host1", address)
    file = cluster.graders.health_file("host1")
    await until(file.exists)
    assert judge(file, datetime.now(UTC)) == (True, "ready")


@pytest.mark.parametrize(
    ("address", "command", "expected"),
    [
        pytest.param(link, *each, marks=[] if number % 2 == place else pytest.mark.long)
        for place, link in enumerate(("http", "ws"))
        for number, each in enumerate(OUTCOMES.items())
    ],
    indirect=["address"],
)
async def test_outcomes_arrive_with_their_reasons(
    cluster: Cluster, address: str, command: tuple[str, ...], expected: tuple[str, str]
) -> None:
    cluster.graders.attach("host1", address)
    await cluster.client.register("cs241", "mp1", students=[stage(*command)])

    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))

    assert [(job["outcome"], job["reason"]) for job in run["jobs"]] == [expected]


@by_http
async def test_a_fault_is_retried_and_named(cluster: Cluster, address: str) -> None:
    containers = cluster.graders.attach("host1", address, slots=1)
    await cluster.client.register("cs241", "mp1", students=[stage("fault", "create")])

    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))

    (job,) = run["jobs"]
    assert (job["outcome"], job["fault_phase"], job["attempts"]) == ("infrastructure_error", "create", 3)
    assert len(containers.started) == 3


@by_ws
async def test_slots_are_used_side_by_side(cluster: Cluster, address: str) -> None:
    containers = cluster.graders.attach("host1", address, slots=3)
    await cluster.client.register("cs241", "mp1", students=[stage("hang")])
    await cluster.client.submit("cs241", "mp1", students=5)

    await until(lambda: len(containers.started) == 3)


@by_http
async def test_a_grader_takes_no_job_while_its_engine_is_unavailable(cluster: Cluster, address: str) -> None:
    containers = cluster.graders.attach("sick", address, slots=1)
    containers.is_away = True
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=4)
    cluster.graders.attach("well", address, slots=1)
    run = await cluster.client.finished("cs241", run_id)
    await cluster.graders.stop("well")
    containers.is_away = False
    again = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))

    assert {(job["grader"], job["outcome"], job["attempts"]) for job in run["jobs"]} == {("well", "succeeded", 1)}
    assert again["jobs"][0]["grader"] == "sick"


async def test_a_grader_without_an_engine_closes_its_connection(cluster: Cluster) -> None:
    cluster.settings.offer_amqp = False
    containers = cluster.graders.attach("sick", address_of(cluster, "ws"), slots=1)
    await until(lambda: kinds(cluster))
    containers.is_away = True
    await until(lambda: is_gone(cluster))
    containers.is_away = False
    await until(lambda: kinds(cluster))


async def is_gone(cluster: Cluster) -> bool:
    return not await kinds(cluster)


@by_http
async def test_a_drained_grader_finishes_running_jobs_and_takes_no_new_ones(cluster: Cluster, address: str) -> None:
    containers = cluster.graders.attach("host1", address, slots=1, drain_timeout=PATIENCE)
    await cluster.client.register("cs241", "mp1", students=[stage("pipe")])
    run_id = await cluster.client.submit("cs241", "mp1", students=2)
    await until(lambda: containers.started)

    async with asyncio.TaskGroup() as stopping:
        stopping.create_task(cluster.graders.stop("host1"))
        heir = cluster.graders.start("heir")
        await until(lambda: heir.started)
        for each in (containers, heir):
            each.pipe.put_nowait(None)
    run = await cluster.client.finished("cs241", run_id)

    assert [(job["outcome"], job["attempts"]) for job in run["jobs"]] == [("succeeded", 1)] * 2
    assert (len(containers.started), len(heir.started)) == (1, 1)


@by_ws
async def test_a_drained_grader_returns_unfinished_jobs(cluster: Cluster, address: str) -> None:
    containers = cluster.graders.attach("host1", address, slots=1, drain_timeout=0.1)
    await cluster.client.register("cs241", "mp1", students=[stage("pipe")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    await until(lambda: containers.started)

    await cluster.graders.stop("host1")
    cluster.graders.start("heir").pipe.put_nowait(None)
    run = await cluster.client.finished("cs241", run_id)

    assert [(job["outcome"], job["attempts"], job["grader"]) for job in run["jobs"]] == [("succeeded", 1, "heir")]


async def test_a_grader_uses_the_broker_that_the_api_offers(cluster: Cluster) -> None:
    cluster.graders.attach("host1", address_of(cluster))

    async def is_at_the_broker() -> bool:
        return await kinds(cluster) == {"host1": False}

    await until(is_at_the_broker)


async def test_a_grader_that_cannot_reach_the_broker_polls(cluster: Cluster) -> None:
    cluster.settings.grader_amqp_url = SecretStr(f"amqp://127.0.0.1:{free_port()}/")
    cluster.graders.attach("host1", address_of(cluster))

    async def polls() -> bool:
        return await kinds(cluster) == {"host1": True}

    await until(polls)


async def test_a_websocket_grader_ignores_the_broker_and_each_slot_is_a_worker(cluster: Cluster) -> None:
    cluster.graders.attach("host1", address_of(cluster, "ws"), slots=2)

    async def are_two() -> bool:
        return await kinds(cluster) == {"host1": True, "host1-2": True}

    await until(are_two)
    await cluster.graders.stop("host1")

    async def have_said_goodbye() -> bool:
        return await kinds(cluster) == {}

    await until(have_said_goodbye)

"""A new cluster: each grader behind the API has a secret, and the cluster token alone speaks for no grader."""

import asyncio
import json
from typing import Any

import pytest
import websockets
from fake_containers import FakeContainers
from harness import Cluster, broadway, stage, until
from pollers import CLUSTER, Poller, result
from protocols import by_http, by_ws
from pydantic import SecretStr

from broadway.grader.serve import run
from broadway.service import StartError, Stop
from broadway.settings.programs import ApiSettings

SWITCH = "pool default refuses graders without a secret: `broadway pool set default --original-graders on`"


@pytest.fixture(scope="module")
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"original_graders": None, "offer_amqp": False})


@pytest.fixture(params=["http", "ws"])
def address(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    return f"{request.param}://127.0.0.1:{cluster.settings.bind_port}"


async def operate(cluster: Cluster, *arguments: str) -> str:
    access = ("--server", str(cluster.client.http.base_url), "--token", "operator-token")
    done = await broadway(*arguments, *access)
    assert done.exit_code == 0, done.stderr
    return done.stdout


async def submit(cluster: Cluster, *command: str) -> str:
    await cluster.client.register("cs241", "mp1", students=[stage(*command)])
    return await cluster.client.submit("cs241", "mp1", students=1)


async def grades(cluster: Cluster) -> list[tuple[str, str, int]]:
    run = await cluster.client.finished("cs241", await submit(cluster, "exit", "0"))
    return [(job["grader"], job["outcome"], job["attempts"]) for job in run["jobs"]]


async def forged(cluster: Cluster, name: str, job_id: str) -> list[tuple[int, str]]:
    """Speak in a grader's name with the cluster token alone; return the statuses and messages of the answers."""
    http, path = cluster.client.http, f"/api/v2/graders/{name}"
    answers = [
        await http.post(f"/api/v1/grading_job/{name}", json=result(job_id, success=False), headers=CLUSTER),
        await http.get(f"/api/v1/grading_job/{name}", headers=CLUSTER),
        await http.post(f"/api/v1/heartbeat/{name}", headers=CLUSTER),
        await http.delete(path, headers=CLUSTER),
    ]
    v1 = [(each.status_code, each.json()["data"]["message"]) for each in answers[:3]]
    return [*v1, (answers[3].status_code, answers[3].json()["detail"])]


async def closing(cluster: Cluster, name: str) -> tuple[int | None, str | None]:
    """Return the code and reason with which a WebSocket that has the cluster token is closed."""
    url = f"ws://127.0.0.1:{cluster.settings.bind_port}/api/v1/worker_ws/{name}"
    async with websockets.connect(url, additional_headers=CLUSTER) as socket:
        await socket.wait_closed()
        return socket.close_code, socket.close_reason


@by_http
async def test_our_grader_has_a_secret_and_no_other_request_speaks_for_it(cluster: Cluster, address: str) -> None:
    containers = cluster.graders.attach("host1", address, slots=1)
    run_id = await submit(cluster, "pipe")
    await until(lambda: containers.started)
    (job,) = (await cluster.client.describe("cs241", run_id))["jobs"]

    assert await forged(cluster, "host1", job["id"]) == [(401, "invalid token")] * 4
    assert await closing(cluster, "host1") == (1008, "invalid token")
    join = await cluster.client.http.post("/api/v2/graders/host1", json={"hostname": "h"}, headers=CLUSTER)
    assert (join.status_code, "forget-secret host1" in join.json()["detail"]) == (403, True)
    containers.pipe.put_nowait(None)
    (job,) = (await cluster.client.finished("cs241", run_id))["jobs"]
    assert (job["grader"], job["outcome"], job["attempts"]) == ("host1", "succeeded", 1)

    file = cluster.graders.directory / "host1" / "host1.secret"
    secret, mode = file.read_text(), file.stat().st_mode & 0o777
    await cluster.graders.stop("host1")
    cluster.graders.attach("host1", address, slots=1)
    assert await grades(cluster) == [("host1", "succeeded", 1)]
    assert (file.read_text(), mode) == (secret, 0o600)
    assert secret not in str(await cluster.opened.store.graders.all())


async def test_the_job_of_a_grader_at_the_broker_is_not_reported_through_the_gateway(cluster: Cluster) -> None:
    containers = cluster.graders.start("native", slots=1)
    run_id = await submit(cluster, "pipe")
    await until(lambda: containers.started)
    (job,) = (await cluster.client.describe("cs241", run_id))["jobs"]

    assert await forged(cluster, "native", job["id"]) == [(401, "worker not found")] * 4
    containers.pipe.put_nowait(None)
    (job,) = (await cluster.client.finished("cs241", run_id))["jobs"]
    assert (job["grader"], job["outcome"], job["attempts"]) == ("native", "succeeded", 1)


@by_ws
async def test_a_grader_goes_on_after_its_secret_was_forgotten(cluster: Cluster, address: str) -> None:
    cluster.graders.attach("host1", address, slots=1)
    assert await grades(cluster) == [("host1", "succeeded", 1)]
    first = await cluster.opened.store.graders.get("host1")
    assert first is not None
    await operate(cluster, "grader", "forget-secret", "host1")
    ((grader, outcome, _),) = await grades(cluster)  # a connection that ends meanwhile costs an execution
    assert (grader, outcome) == ("host1", "succeeded")

    async def has_it_again() -> bool:
        again = await cluster.opened.store.graders.get("host1")
        return again is not None and again.secret == first.secret

    await until(has_it_again)


async def test_the_originals_graders_are_refused_with_the_switch_and_let_in_by_it(cluster: Cluster) -> None:
    poller = Poller(cluster.client.http, "p1")
    refused = await poller.register()
    assert (refused.status_code, refused.json()["data"]["message"]) == (403, SWITCH)
    assert await closing(cluster, "s1") == (1008, SWITCH)

    assert "admits graders without a secret" in await operate(
        cluster, "pool", "set", "default", "--original-graders", "on"
    )
    assert (await poller.register()).is_success
    run_id = await submit(cluster, "exit", "0")
    job = await until(poller.poll)
    assert (await poller.report(job["grading_job_id"])).is_success
    assert (await cluster.client.finished("cs241", run_id))["jobs"][0]["grader"] == "p1"
    (row,) = [line.split("\t") for line in (await operate(cluster, "pool", "list")).splitlines()[1:]]
    assert (row[0], row[1], row[-1]) == ("default", "on", "p1")


async def test_an_open_connection_ends_when_the_switch_is_turned_off(cluster: Cluster) -> None:
    await operate(cluster, "pool", "set", "default", "--original-graders", "on")
    url = f"ws://127.0.0.1:{cluster.settings.bind_port}/api/v1/worker_ws/s1"
    async with websockets.connect(url, additional_headers=CLUSTER, ping_interval=0.2) as socket:
        await socket.send(json.dumps({"type": "register", "args": {"hostname": "s1.example"}}))
        assert json.loads(await socket.recv()) == {"success": True}
        await operate(cluster, "pool", "set", "default", "--original-graders", "off")
        await socket.wait_closed()
        assert (socket.close_code, socket.close_reason) == (1008, SWITCH)


@by_ws
async def test_a_join_token_from_the_command_line_admits_a_grader(cluster: Cluster, address: str) -> None:
    token = (await operate(cluster, "grader", "token", "create", "--pool", "default", "--uses", "1")).strip()
    cluster.graders.attach("host1", address, slots=1, token=SecretStr(token))
    assert await grades(cluster) == [("host1", "succeeded", 1)]
    (row,) = [line.split("\t") for line in (await operate(cluster, "grader", "token", "list")).splitlines()[1:]]
    assert (row[2], row[3], row[4]) == ('["default"]', "0", '["host1"]')
    assert token not in "".join(row)
    await operate(cluster, "grader", "token", "revoke", row[0])
    await cluster.graders.stop("host1")
    cluster.graders.attach("host1", address, slots=1, token=SecretStr(token))
    assert await grades(cluster) == [("host1", "succeeded", 1)], "its secret is its own now"
    with pytest.raises(StartError, match="revoked"):
        await attempt(cluster, "host2", token=token)


async def attempt(cluster: Cluster, name: str, **more: Any) -> None:
    """Run a grader until it ends."""
    own = {"slots": 1, "drain_timeout": 0.1, "api_host": str(cluster.client.http.base_url).rstrip("/")}
    given = {key: SecretStr(value) for key, value in more.items()}
    settings = cluster.graders.settings(name, **own, heartbeat_interval=1).model_copy(update=given)
    try:
        await run(settings, containers=FakeContainers(), stop=Stop())
    except ExceptionGroup as group:  # of a grader that was already at work
        raise leaf(group) from group


def leaf(error: Exception) -> Exception:
    return leaf(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


async def test_a_grader_with_an_address_of_the_broker_joins_and_can_be_refused_and_revoked(cluster: Cluster) -> None:
    broker = cluster.place.amqp_url
    with pytest.raises(StartError, match="refuses this token"):
        await attempt(cluster, "h1", amqp_url=broker, token="wrong")
    running = asyncio.create_task(attempt(cluster, "h1", amqp_url=broker, token="cluster-token"))
    assert await grades(cluster) == [("h1", "succeeded", 1)]
    grader = await cluster.opened.store.graders.get("h1")
    assert grader is not None
    assert grader.has_secret
    await operate(cluster, "grader", "revoke", "h1", "--yes", "--reason", "stolen")
    with pytest.raises(StartError, match="stolen"):
        await running
    with pytest.raises(StartError, match="has been revoked"):
        await attempt(cluster, "h1", amqp_url=broker, token="cluster-token")

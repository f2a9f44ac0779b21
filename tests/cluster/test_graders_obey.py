"""Graders follow the orders of operators: at once, after a restart, and after a lost message."""

import asyncio
from typing import Any

import pytest
from harness import Cluster, stage, until
from typer.testing import CliRunner, Result

from broadway.cli.app import app
from broadway.domain.grader import GraderMode
from broadway.grader import serve as grader
from broadway.grader.worker.self_check import SelfCheck

OPERATOR = {"Authorization": "Bearer operator-token"}
TOKEN = {"Authorization": "Bearer cluster-token"}


async def broadway(cluster: Cluster, *arguments: str) -> Result:
    access = ["--server", str(cluster.client.http.base_url), "--token", "operator-token"]
    return await asyncio.to_thread(CliRunner().invoke, app, ["grader", *arguments, *access])


async def describe(cluster: Cluster, name: str) -> dict[str, Any]:
    answer = await cluster.client.http.get(f"/api/v2/graders/{name}", headers=OPERATOR)
    grader: dict[str, Any] = answer.json()
    return grader


def is_in(cluster: Cluster, name: str, state: str) -> Any:
    async def has_state() -> bool:
        return (await describe(cluster, name)).get("state") == state

    return has_state


def runs(cluster: Cluster, name: str, jobs: int) -> Any:
    async def has_jobs() -> bool:
        return len((await describe(cluster, name)).get("running", [])) == jobs

    return has_jobs


def attach(cluster: Cluster, name: str, *, slots: int = 2) -> Any:
    return cluster.graders.attach(name, str(cluster.client.http.base_url), slots=slots)


async def test_a_paused_grader_takes_no_job_and_finishes_its_running_ones(cluster: Cluster) -> None:
    containers = attach(cluster, "h1")
    await cluster.client.register("cs241", "mp1", students=[stage("pipe")])
    first = await cluster.client.submit("cs241", "mp1", students=2)
    await until(runs(cluster, "h1", 2))

    paused = await broadway(cluster, "pause", "h1", "--reason", "a new disk")
    await until(is_in(cluster, "h1", "paused"))
    second = await cluster.client.submit("cs241", "mp1", students=1)
    for _ in range(3):
        containers.pipe.put_nowait(None)
    jobs = (await cluster.client.finished("cs241", first))["jobs"]

    assert paused.exit_code == 0
    assert [(job["outcome"], job["attempts"]) for job in jobs] == [("succeeded", 1)] * 2
    assert (await describe(cluster, "h1"))["reason"] == "a new disk"
    (waiting,) = (await cluster.client.describe("cs241", second))["jobs"]
    assert (waiting["attempts"], waiting["grader"]) == (0, None)

    await broadway(cluster, "resume", "h1")
    await cluster.client.finished("cs241", second)
    await until(is_in(cluster, "h1", "online"))


async def test_a_drained_grader_stays_drained_after_a_restart(cluster: Cluster) -> None:
    containers = attach(cluster, "h1")
    await cluster.client.register("cs241", "mp1", students=[stage("pipe")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    await until(runs(cluster, "h1", 1))

    await broadway(cluster, "drain", "h1")
    await until(is_in(cluster, "h1", "draining"))
    containers.pipe.put_nowait(None)
    await cluster.client.finished("cs241", run_id)
    await until(is_in(cluster, "h1", "drained"))
    await cluster.graders.stop("h1")
    await until(is_in(cluster, "h1", "gone"))
    containers = attach(cluster, "h1")
    await until(is_in(cluster, "h1", "drained"))
    waiting = await cluster.client.submit("cs241", "mp1", students=1)

    attach(cluster, "h2").pipe.put_nowait(None)
    (job,) = (await cluster.client.finished("cs241", waiting))["jobs"]
    assert job["grader"] == "h2"
    assert containers.started == []


async def test_an_order_that_did_not_reach_its_grader_is_sent_again(cluster: Cluster) -> None:
    cluster.graders.start("h1")  # it does not join through the API, which would return the order
    await until(is_in(cluster, "h1", "online"))
    await cluster.opened.store.graders.set_mode("h1", GraderMode.PAUSED, "")

    await until(is_in(cluster, "h1", "paused"))


async def test_slots_change_while_jobs_run(cluster: Cluster) -> None:
    containers = attach(cluster, "h1", slots=1)
    await cluster.client.register("cs241", "mp1", students=[stage("pipe")])
    run_id = await cluster.client.submit("cs241", "mp1", students=9)
    await until(runs(cluster, "h1", 1))

    await broadway(cluster, "set-slots", "h1", "4")
    await until(runs(cluster, "h1", 4))
    await broadway(cluster, "set-slots", "h1", "0")
    for _ in range(9):
        containers.pipe.put_nowait(None)
    jobs = (await cluster.client.finished("cs241", run_id))["jobs"]

    assert {(job["outcome"], job["attempts"]) for job in jobs} == {("succeeded", 1)}
    assert (await describe(cluster, "h1"))["slots"] == 1


@pytest.mark.parametrize("verb", ["pause", "resume", "drain", "slots", "readmit", "revoke"])
async def test_orders_need_the_operators_token_and_a_grader(cluster: Cluster, verb: str) -> None:
    body = {"slots": 2} if verb == "slots" else {}
    stranger = await cluster.client.post(f"../v2/graders/h1/{verb}", body, token="staff-241")
    grader = await cluster.client.post(f"../v2/graders/h1/{verb}", body, token="cluster-token")
    unknown = await cluster.client.http.post(f"/api/v2/graders/nobody/{verb}", json=body, headers=OPERATOR)

    assert (stranger.status_code, grader.status_code) == (401, 401)
    assert unknown.status_code == (202 if verb == "revoke" else 404)


async def test_invalid_slots_are_refused_with_the_field(cluster: Cluster) -> None:
    for slots in (0, 513, "2", 1.5):
        answer = await cluster.client.http.post("/api/v2/graders/h1/slots", json={"slots": slots}, headers=OPERATOR)
        assert answer.status_code == 400
        assert "slots" in answer.json()["detail"]


async def test_a_revoked_grader_may_join_again_once_it_is_readmitted(cluster: Cluster) -> None:
    await cluster.client.http.post("/api/v2/graders/h1/revoke", headers=OPERATOR)
    about = {"hostname": "host", "pool": "default", "slots": 1}

    refused = await cluster.client.http.post("/api/v2/graders/h1", json=about, headers=TOKEN)
    polling = await cluster.client.post("worker/h1", {"hostname": "host"}, token="cluster-token")
    assert (refused.status_code, polling.status_code) == (403, 403)
    assert "readmit h1" in refused.json()["detail"]
    assert (await broadway(cluster, "resume", "h1")).exit_code == 1

    assert (await broadway(cluster, "readmit", "h1")).exit_code == 0
    assert (await broadway(cluster, "readmit", "h1")).exit_code == 1
    joined = await cluster.client.http.post("/api/v2/graders/h1", json=about, headers=TOKEN)
    assert joined.status_code == 200


async def test_a_polling_grader_can_be_paused_and_revoked_too(cluster: Cluster) -> None:
    await cluster.client.post("worker/p1", {"hostname": "host"}, token="cluster-token")
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    await broadway(cluster, "pause", "p1")
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    assert (await cluster.client.get("grading_job/p1", token="cluster-token")).status_code == 498
    await broadway(cluster, "resume", "p1")

    async def is_handed_out() -> bool:
        return (await cluster.client.get("grading_job/p1", token="cluster-token")).status_code == 200

    await until(is_handed_out)
    attach(cluster, "h1")
    await broadway(cluster, "revoke", "p1", "--yes")
    (job,) = (await cluster.client.finished("cs241", run_id))["jobs"]

    assert (job["grader"], job["outcome"]) == ("h1", "succeeded")
    assert (await cluster.client.get("grading_job/p1", token="cluster-token")).status_code == 403


async def test_a_grader_with_a_broken_engine_pauses_itself_and_resumes(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[SelfCheck] = []
    monkeypatch.setattr(
        grader, "SelfCheck", lambda *given, **more: checks.append(SelfCheck(*given, **more)) or checks[-1]
    )
    broken = cluster.graders.attach("h1", str(cluster.client.http.base_url), slots=1, pause_after=2, pause=600.0)
    broken.is_broken = True
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    first = await cluster.client.submit("cs241", "mp1", students=2)
    await until(is_in(cluster, "h1", "paused"))
    tried = len(broken.started)

    attach(cluster, "h2")
    jobs = (await cluster.client.finished("cs241", first))["jobs"]
    assert [(job["outcome"], job["grader"]) for job in jobs] == [("succeeded", "h2")] * 2
    second = await cluster.client.submit("cs241", "mp1", students=10)
    jobs = (await cluster.client.finished("cs241", second))["jobs"]
    assert [(job["outcome"], job["grader"], job["attempts"]) for job in jobs] == [("succeeded", "h2", 1)] * 10

    why = "2 jobs in a row met infrastructure errors, the last one: start: the engine broke"
    assert (await describe(cluster, "h1"))["reason"] == why
    listed = [line.split("\t") for line in (await broadway(cluster, "list")).stdout.splitlines()]
    state = next(line.index("state") for line in listed if "state" in line)
    states = [(line[0], line[state], line[-1]) for line in listed if line[0] in ("h1", "h2")]
    assert states == [("h1", "paused", why), ("h2", "online", "")]
    assert len(broken.started) == tried

    broken.is_broken = False
    checks[0]._until -= 600  # noqa: SLF001 - the pause is over
    await until(is_in(cluster, "h1", "online"))
    await cluster.graders.stop("h2")
    jobs = (await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=2)))["jobs"]
    assert [(job["outcome"], job["grader"], job["attempts"]) for job in jobs] == [("succeeded", "h1", 1)] * 2

"""The same grader id twice in a cluster: the second process ends, and touches nothing of the first."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_containers import FakeContainers
from forks import TESTS
from harness import Cluster, stage, until
from processes import CLUSTER_TOKEN, processes

from broadway.grader import serve as grader
from broadway.grader.links import broker, polling, websocket
from broadway.grader.ports import Owner
from broadway.service import SettingError, Stop, reasons


class Untouched(FakeContainers):
    """An engine on which orphans must not be searched."""

    async def remove_orphans(self, is_orphan: Callable[[Owner], bool]) -> int:  # noqa: ARG002
        raise AssertionError("this grader has not got its id")


@pytest.fixture(scope="module")
def settings(settings: Any) -> Any:
    """Let the API wait longer for a silent grader: on a busy machine, the first must not be taken for dead."""
    return settings.model_copy(update={"heartbeat_interval": 3})


@pytest.fixture(params=["broker", "ws", pytest.param("http", marks=pytest.mark.long)])
def address(request: pytest.FixtureRequest, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the API, for each kind of link."""
    cluster.settings.offer_amqp = request.param == "broker"
    monkeypatch.setattr(broker, "CLAIM_WITHIN", 0.5)
    for link in (polling, websocket):
        monkeypatch.setattr(link, "claim_within", lambda _interval: 0.5)
    scheme = "ws" if request.param == "ws" else "http"
    return f"{scheme}://127.0.0.1:{cluster.settings.bind_port}"


async def test_the_second_process_ends_and_the_firsts_job_goes_on(
    cluster: Cluster, address: str, tmp_path: Path
) -> None:
    first = cluster.graders.attach("host1", address, slots=1)
    await cluster.client.register("cs241", "mp1", students=[stage("hang")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    await until(lambda: first.started)
    settings = cluster.graders.settings("host1", slots=1, drain_timeout=5, api_host=address)
    elsewhere = settings.model_copy(update={"work_dir": tmp_path / "another"})

    secret = next(settings.work_dir.glob("*.secret"))
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / secret.name).write_text(secret.read_text())  # without it, the API refuses the join

    said: list[str] = []
    try:
        await grader.run(elsewhere, containers=Untouched(), stop=Stop())
    except* SettingError as errors:
        said = reasons(errors)

    assert said == ["another process grades as host1: give each grader of the cluster an id of its own"]
    (job,) = (await cluster.client.describe("cs241", run_id))["jobs"]
    assert (job["state"], job["grader"], job["attempts"]) == ("running", "host1", 1)
    assert not list((tmp_path / "another").rglob("*.json"))


async def test_on_one_host_it_ends_at_once_with_the_code_for_wrong_settings(cluster: Cluster, tmp_path: Path) -> None:
    address = str(cluster.client.http.base_url)
    async with processes(tmp_path / "processes", cluster.place.environment) as started:
        await started.attached_grader("host1", address)
        await until(lambda: "ready to grade" in started.log("host1"))
        program, work_dir = str(TESTS / "programs" / "fake_grader.py"), str(started.directory / "work" / "host1")
        await started.start("second", sys.executable, program, address, "host1", "1", work_dir, CLUSTER_TOKEN)

        assert await started.running["second"].wait() == 78
        (line,) = started.log("second").splitlines()
        assert f"grader host1 already runs on this host with --work-dir {work_dir}" in line


async def test_a_grader_waits_for_an_earlier_process_whose_connection_has_not_ended(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "CLAIM_INTERVAL", 0.05)
    cluster.graders.start("host1")
    await until(cluster.opened.store.graders.alive)
    graders = replace(cluster.graders, directory=cluster.graders.directory / "again", running={})
    second = graders.start("host1")
    await cluster.graders.stop("host1")
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))
    await graders.stop("host1")

    assert [job["outcome"] for job in run["jobs"]] == ["succeeded"]
    assert len(second.started) == 1

"""Artifacts of jobs, from the stages to staff, over each link of a grader."""

from pathlib import Path
from typing import Any

import pytest
from harness import Cluster, broadway, stage, until
from pymongo import AsyncMongoClient

from broadway.grader.links import files

COURSE = "/api/v2/courses/cs241"
STAFF = {"Authorization": "Bearer staff-241"}


@pytest.fixture(params=["broker", "http", pytest.param("ws", marks=pytest.mark.long)])
def address(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """The address of an API, for each link of a grader."""
    cluster.settings.offer_amqp = request.param == "broker"
    return f"{'ws' if request.param == 'ws' else 'http'}://127.0.0.1:{cluster.settings.bind_port}"


async def graded(cluster: Cluster, *stages: dict[str, Any]) -> dict[str, Any]:
    """Return the job of a run with these stages, once it has ended."""
    await cluster.client.register("cs241", "mp1", students=list(stages))
    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))
    (job,) = run["jobs"]
    found: dict[str, Any] = job
    return found


async def messages_of(cluster: Cluster, job: dict[str, Any]) -> str:
    log = await cluster.client.get(f"grading_job_log/cs241/{job['id']}", token="staff-241")
    return str(log.json()["data"]["stderr"])


async def test_artifacts_are_there_when_the_job_has_ended(cluster: Cluster, address: str, tmp_path: Path) -> None:
    cluster.graders.attach("host1", address, slots=1)
    job = await graded(
        cluster,
        stage("write", "plot.png", "of the first", artifacts=["*.png"]),
        stage("write", "Plot.png", "x", artifacts=["*"]),
        stage("exit", "3", artifacts=["*.png"]),
    )
    assert job["outcome"] == "failed"
    server = ("--server", f"http://127.0.0.1:{cluster.settings.bind_port}", "--course", "cs241", "--token", "staff-241")

    listed = await broadway("job", "artifacts", job["id"][:10], *server)
    got = await broadway("job", "artifacts", job["id"][:10], "--attempt", "1", *server, "-o", str(tmp_path / "kept"))

    assert (listed.exit_code, got.exit_code) == (0, 0), listed.stderr + got.stderr
    left_out = "left out: Plot.png: plot.png and Plot.png differ only in case: some systems take them for one file"
    assert left_out in listed.stderr
    assert listed.stdout.splitlines()[1].split("\t")[:3] == ["plot.png", "2", "12"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["plot.png"]
    assert (tmp_path / "kept" / "plot.png").read_text() == "of the first"
    assert "artifacts: 2 left out, such as Plot.png" in await messages_of(cluster, job)
    none = await broadway("job", "artifacts", job["id"], "--attempt", "2", *server)
    assert (none.exit_code, none.stderr) == (2, "broadway: --attempt: the job has 1 attempts\n")
    again = await broadway("job", "artifacts", job["id"], *server, "-o", str(tmp_path / "kept"))
    assert (again.exit_code, "exists; remove it" in again.stderr) == (1, True)


async def test_an_outcome_is_reported_without_artifacts_that_cannot_be_stored(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "STORED_WITHIN", 0.5)
    cluster.graders.attach("host1", f"http://127.0.0.1:{cluster.settings.bind_port}", slots=1)
    monkeypatch.setattr(cluster.settings.http, "spool_dir", Path("/nowhere"))  # the API cannot take a file

    job = await graded(cluster, stage("write", "plot.png", "1", artifacts=["*.png"]))

    assert (job["outcome"], job["attempts"]) == ("succeeded", 1)
    said = "artifacts: not stored: the API does not answer within 0.5 s"
    assert said in await messages_of(cluster, job)


async def test_a_grader_that_knows_no_api_takes_no_job_with_artifacts(cluster: Cluster) -> None:
    without = cluster.graders.start("without-api", has_api=False)
    await cluster.client.register("cs241", "mp1", students=[stage(artifacts=["*.png"])])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)

    async def says_so() -> bool:
        jobs = (await cluster.client.http.get(f"{COURSE}/runs/{run_id}/jobs", headers=STAFF)).json()["items"]
        return [job["waits_for"] for job in jobs] == ["a grader of pool default with artifacts of stages"]

    await until(says_so)
    assert without.started == []


async def test_an_execution_that_was_lost_leaves_nothing_in_the_list(cluster: Cluster) -> None:
    """A manifest of an execution that no job has on record is there, and never shown."""
    cluster.graders.attach("host1", f"http://127.0.0.1:{cluster.settings.bind_port}", slots=1)
    job = await graded(cluster, stage("write", "plot.png", "1", artifacts=["*.png"]))
    async with AsyncMongoClient[dict[str, Any]](cluster.place.mongodb_dsn, tz_aware=True) as mongo:
        artifact = mongo[cluster.settings.mongodb.primary]["artifact"]
        (kept,) = await artifact.find({}).to_list()
        await artifact.insert_one({**kept, "_id": f"{job['id']}:1:lost:host1", "execution": "lost"})

    listed = (await cluster.client.http.get(f"{COURSE}/jobs/{job['id']}/artifacts", headers=STAFF)).json()
    lost = await cluster.client.http.get(f"{COURSE}/jobs/{job['id']}/artifacts?attempt=lost", headers=STAFF)

    assert [file["path"] for file in listed["files"]] == ["plot.png"]
    assert listed["attempt"] == kept["execution"]
    assert lost.status_code == 404

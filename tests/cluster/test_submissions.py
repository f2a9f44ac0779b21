"""Files that students hand in, in the directories of their jobs, over each link of a grader."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

import pytest
from harness import Cluster, stage, until
from pymongo import AsyncMongoClient

COURSE = "/api/v2/courses/cs241"
STAFF = {"Authorization": "Bearer staff-241"}
STUDENTS = [f"s{number}" for number in range(4)]


@pytest.fixture
def address(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """The address of an API, for each link of a grader."""
    cluster.settings.offer_amqp = request.param == "broker"
    return f"{'ws' if request.param == 'ws' else 'http'}://127.0.0.1:{cluster.settings.bind_port}"


def over(*links: str) -> pytest.MarkDecorator:
    """Take these links in each session, and the others in the long one, since all share most of their code."""
    others = (pytest.param(link, marks=pytest.mark.long) for link in ("broker", "http", "ws") if link not in links)
    return pytest.mark.parametrize("address", [*links, *others], indirect=True)


async def hand_in(cluster: Cluster, student: str, files: dict[str, bytes]) -> dict[str, Any]:
    answer = await cluster.client.http.post(
        f"{COURSE}/assignments/mp1/submissions",
        params={"student": student},
        files=[("files", (name, content)) for name, content in files.items()],
        headers=STAFF,
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def output_of(cluster: Cluster, run_id: str) -> str:
    run = await cluster.client.finished("cs241", run_id)
    (job,) = run["jobs"]
    assert job["outcome"] == "succeeded", job
    log = await cluster.client.get(f"grading_job_log/cs241/{job['id']}", token="staff-241")
    return str(log.json()["data"]["stdout"])


@over("broker", "ws")
async def test_each_job_gets_the_files_of_its_own_submission(cluster: Cluster, address: str) -> None:
    containers = cluster.graders.attach("host1", address, slots=2)
    await cluster.client.register("cs241", "mp1", students=[stage("digests", "submission")])

    made = await asyncio.gather(
        *(
            hand_in(cluster, student, {"main.c": student.encode(), "d/starter.h": b"the same for all"})
            for student in STUDENTS
        )
    )

    outputs = await asyncio.gather(*(output_of(cluster, each["run_id"]) for each in made))
    starter = sha256(b"the same for all").hexdigest()
    for student, output in zip(STUDENTS, outputs, strict=True):
        assert f"d/starter.h:644:{starter} main.c:644:{sha256(student.encode()).hexdigest()}" in output
    assert len(containers.started) == len(STUDENTS)


@over("http")
async def test_a_changed_file_in_a_graders_cache_is_fetched_again(cluster: Cluster, address: str) -> None:
    cluster.graders.attach("host1", address, slots=1)
    await cluster.client.register("cs241", "mp1", students=[stage("read", "submission/main.c")])
    first = await hand_in(cluster, "s1", {"main.c": b"right"})
    assert "right" in await output_of(cluster, first["run_id"])
    (kept,) = (cluster.graders.directory / "host1" / "files").rglob(sha256(b"right").hexdigest())
    kept.write_bytes(b"wrong")

    second = await hand_in(cluster, "s2", {"main.c": b"right"})

    assert "right" in await output_of(cluster, second["run_id"])
    assert kept.read_bytes() == b"right"


async def test_a_file_that_is_gone_is_a_fault_of_the_infrastructure(cluster: Cluster) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("read", "submission/main.c")])
    made = await hand_in(cluster, "s1", {"main.c": b"1"})
    async with AsyncMongoClient(cluster.place.mongodb_dsn) as mongo:
        removed = await mongo[cluster.settings.mongodb.primary]["blob"].delete_many({})
    assert removed.deleted_count == 1

    cluster.graders.attach("host1", f"http://127.0.0.1:{cluster.settings.bind_port}", slots=1)

    run = await cluster.client.finished("cs241", made["run_id"])
    (job,) = run["jobs"]
    assert job["outcome"] == "infrastructure_error"
    assert job["reason"] == "create: the submission's files: the API refuses: status 404"
    download = await cluster.client.http.get(f"{COURSE}/submissions/{made['id']}/files/main.c", headers=STAFF)
    assert (download.status_code, download.json()["detail"]) == (404, "this file is not stored any more")


async def test_a_grader_that_knows_no_api_takes_no_job_with_files(cluster: Cluster) -> None:
    without = cluster.graders.start("without-api", has_api=False)
    await cluster.client.register("cs241", "mp1", students=[stage("read", "submission/main.c")])
    made = await hand_in(cluster, "s1", {"main.c": b"here"})

    async def waits_for() -> list[str]:
        jobs = (await cluster.client.http.get(f"{COURSE}/runs/{made['run_id']}/jobs", headers=STAFF)).json()["items"]
        return [str(job["waits_for"]) for job in jobs]

    await until(lambda: _says(waits_for, "a grader of pool default with files of submissions"))
    assert without.started == []

    await cluster.graders.stop("without-api")
    cluster.graders.attach("with-api", f"http://127.0.0.1:{cluster.settings.bind_port}", slots=1)

    assert "here" in await output_of(cluster, made["run_id"])


async def _says(texts: Callable[[], Awaitable[list[str]]], expected: str) -> bool:
    return await texts() == [expected]

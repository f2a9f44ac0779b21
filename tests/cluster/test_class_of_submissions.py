"""A class that hands in by upload and by push at once: each submission is graded once, with its own files."""

import asyncio
import json
from hashlib import sha256
from typing import Any

import pytest
from fake_containers import FakeContainers
from harness import IS_WHOLE, Cluster, stage, until
from pushes import push, signature

COURSE = "/api/v2/courses/cs241"
STAFF = {"Authorization": "Bearer staff-241"}
SECRET = "a-secret-of-this-hook"
STARTER = b"the same for all" * 100
CLASS = 200 if IS_WHOLE else 5
TIMES = 2  # that each student hands in
AT_ONCE = 20  # requests


@pytest.mark.timeout(600)
async def test_each_submission_of_a_class_is_graded_once_with_its_own_files(cluster: Cluster) -> None:
    graders = await _graders(cluster)
    students = [f"s{number}" for number in range(CLASS)]
    await _prepare(cluster, students)
    turns = asyncio.Semaphore(AT_ONCE)

    async def by_upload(student: str) -> list[dict[str, Any]]:
        made = []
        for time in range(TIMES):
            async with turns:
                made.append(await _hand_in(cluster, student, time))
        return made

    async def by_push(student: str) -> None:
        for time in range(TIMES):
            async with turns:
                await _push(cluster, student, time)

    async with asyncio.TaskGroup() as group:
        uploads = [group.create_task(by_upload(student)) for student in students]
        for student in students:
            group.create_task(by_push(student))

    for student, task in zip(students, uploads, strict=True):
        outcomes = [await _outcome(cluster, student, time, made) for time, made in enumerate(task.result())]
        assert outcomes[-1] == "succeeded", student
        assert {*outcomes} <= {"succeeded", "superseded"}, student
    await _all_pushes_are_graded(cluster, students)
    for assignment in ("uploaded", "pushed"):
        await _all_are_graded(cluster, assignment, students)
    assert all(containers.started for containers in graders), "each link has had jobs"


async def _graders(cluster: Cluster) -> list[FakeContainers]:
    """Start a grader that is native, and graders behind the gateway by each of its links."""
    started = []
    for name, scheme in (("native", "http"), ("polling", "http"), ("streaming", "ws")):
        cluster.settings.offer_amqp = name == "native"
        started.append(cluster.graders.attach(name, f"{scheme}://127.0.0.1:{cluster.settings.bind_port}", slots=2))
        await until(lambda name=name: cluster.opened.store.graders.get(name))
    return started


async def _prepare(cluster: Cluster, students: list[str]) -> None:
    await cluster.client.register("cs241", "uploaded", students=[stage("digests", "submission")])
    await cluster.client.register("cs241", "pushed", students=[stage("env", "BROADWAY_COMMIT")])
    roster = [{"student": name, "repository": f"cs/{name}", "env": {}} for name in students]
    for path, body in (
        ("assignments/uploaded/settings", {"only_latest": True, "points": 10}),
        ("assignments/pushed/settings", {"points": 10}),
        ("assignments/pushed/roster", {"students": roster}),
        ("hooks/git", {"assignment": "pushed", "secrets": [SECRET], "only_latest": True}),
    ):
        answer = await cluster.client.http.put(f"{COURSE}/{path}", json=body, headers=STAFF)
        assert answer.status_code == 200, answer.text


def _content(student: str, time: int) -> bytes:
    return f"{student} {time}".encode() * 1000


def _commit(student: str, time: int) -> str:
    return sha256(_content(student, time)).hexdigest()[:40]


async def _hand_in(cluster: Cluster, student: str, time: int) -> dict[str, Any]:
    answer = await cluster.client.http.post(
        f"{COURSE}/assignments/uploaded/submissions",
        params={"student": student},
        files=[("files", ("main.c", _content(student, time))), ("files", ("d/starter.h", STARTER))],
        headers=STAFF,
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def _push(cluster: Cluster, student: str, time: int) -> None:
    raw = json.dumps(push(student, _commit(student, time))).encode()
    headers = {"X-GitHub-Delivery": f"{student}-{time}", "X-Hub-Signature-256": signature(raw, SECRET)}
    answer = await cluster.client.http.post(f"{COURSE}/hooks/git", content=raw, headers=headers)
    assert answer.status_code == 202, answer.text


async def _outcome(cluster: Cluster, student: str, time: int, made: dict[str, Any]) -> str:
    """Return the outcome of an upload's only job, whose program has seen the upload's own files."""
    run_id = await until(lambda: _run_of(cluster, made), within=300)
    run = await cluster.client.finished("cs241", run_id, within=300)
    (job,) = run["jobs"]
    if job["outcome"] == "succeeded":
        log = await cluster.client.get(f"grading_job_log/cs241/{job['id']}", token="staff-241")
        own, starter = (sha256(each).hexdigest() for each in (_content(student, time), STARTER))
        assert f"d/starter.h:644:{starter} main.c:644:{own}" in log.json()["data"]["stdout"]
    return str(job["outcome"])


async def _all_are_graded(cluster: Cluster, assignment: str, students: list[str]) -> None:
    """Check the draft, and publish it: each student has all points, for the latest submission."""
    base = f"{COURSE}/assignments/{assignment}/grades"
    answer = await cluster.client.http.post(f"{base}/publish", json={"based_on": 0}, headers=STAFF)
    assert answer.status_code == 200, answer.text
    found = (await cluster.client.http.get(f"{base}?version=published&limit=500", headers=STAFF)).json()
    grades = [(each["student"], each["status"], each["points"]) for each in found["items"]]
    assert grades == [(student, "graded", "10") for student in sorted(students)]
    if assignment == "uploaded":  # a push that was superseded before it had a job is no submission
        assert {each["number"] for each in found["items"]} == {TIMES}
    assert found["unsettled"] == 0


async def _run_of(cluster: Cluster, made: dict[str, Any]) -> str:
    answer = await cluster.client.http.get(f"{COURSE}/submissions/{made['id']}", headers=STAFF)
    return str(answer.json()["run_id"] or "")


async def _all_pushes_are_graded(cluster: Cluster, students: list[str]) -> None:
    """Check that each push has one run of one job, and that the latest of each student is graded with its commit."""

    async def decided() -> list[dict[str, Any]]:
        found = await _deliveries(cluster)
        return found if all(delivery["run"] for delivery in found) else []

    deliveries = await until(decided, within=300)
    latest = {}
    for delivery in deliveries:
        run = await cluster.client.finished("cs241", delivery["run"], within=300)
        (job,) = run["jobs"]
        if job["outcome"] == "succeeded":
            log = await cluster.client.get(f"grading_job_log/cs241/{job['id']}", token="staff-241")
            assert delivery["version"] in log.json()["data"]["stdout"]
        assert job["outcome"] in ("succeeded", "superseded")
        if delivery["version"] == _commit(delivery["student"], TIMES - 1):
            latest[delivery["student"]] = job["outcome"]
    assert len(deliveries) == len({delivery["run"] for delivery in deliveries}) == TIMES * len(students)
    assert latest == dict.fromkeys(students, "succeeded")


async def _deliveries(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = (await cluster.client.http.get(f"{COURSE}/hooks/git/deliveries", params=after, headers=STAFF)).json()
        found += page["items"]
        if page["next"] is None:
            return found
        after = {"after": page["next"]}

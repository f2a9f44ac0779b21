"""Section 4 of the reference: graders that speak HTTP, W1 to W4."""

from typing import Any

import pytest
from compat.protocol import (
    COURSE,
    FINISHED,
    JOB_FAILED,
    NOBODY,
    NOT_FOUND_JOB,
    NOT_STARTED,
    QUEUED,
    STARTED,
    STUDENTS,
    SUCCEEDED,
    Server,
    data,
    is_invalid,
    is_refused,
    result,
)
from harness import stage, token_of


async def submit(server: Server, name: str, students: int) -> str:
    await server.client.register(COURSE, name, students=[stage()])
    return await server.client.submit(COURSE, name, students=students)


# Registering, W1


async def test_w1_returns_the_heartbeat_interval(server: Server, name: str) -> None:
    poller = await server.poller(name, register=False)

    assert data(await poller.register()) == {"heartbeat": 60}
    assert await server.worker(name)


async def test_w1_a_living_workers_id_is_taken(server: Server, name: str) -> None:
    poller = await server.poller(name)

    assert is_refused(await poller.register(), 400, f"worker id '{name}' already exists")


@pytest.mark.parametrize("body", [b"", {}, {"hostname": 1}, {"hostname": "h", "unknown": 1}])
async def test_w1_the_token_comes_before_the_body_and_the_body_before_the_id(
    server: Server, name: str, body: Any
) -> None:
    poller = await server.poller(name)

    assert is_refused(await poller.register(body, token="wrong"), 401, "invalid token")
    assert is_invalid(await poller.register(body))


# Polling, W2


async def test_w2_hands_out_job_after_job_to_one_worker(server: Server, name: str) -> None:
    run_id = await submit(server, name, 5)
    poller = await server.poller(name)

    jobs = [(await poller.take())["grading_job_id"] for _ in range(5)]

    assert await server.jobs(run_id) == dict.fromkeys(jobs, STARTED)
    assert list(await server.jobs(run_id)) == jobs
    assert is_refused(await poller.poll(), 498, "no jobs available")
    assert (await server.worker(name))["jobs_processed"] == 5


async def test_w2_starts_the_job(server: Server, name: str) -> None:
    run_id = await submit(server, name, 1)
    poller = await server.poller(name)
    job = await poller.take()

    assert set(job) == {"grading_job_id", "stages"}
    assert await server.jobs(run_id) == {job["grading_job_id"]: STARTED}
    assert await server.length() == 0
    assert (await server.worker(name))["busy"]


async def test_w2_every_job_goes_to_one_worker_only(server: Server, name: str) -> None:
    await submit(server, name, 4)
    pollers = [await server.poller(f"{name}-{number}") for number in range(4)]

    jobs = [(await poller.take())["grading_job_id"] for poller in pollers]

    assert len(set(jobs)) == 4


# Results, W3


@pytest.mark.parametrize(("success", "state"), [(True, SUCCEEDED), (False, JOB_FAILED)])
async def test_w3_ends_the_job(server: Server, name: str, success: bool, state: str) -> None:
    run_id = await submit(server, name, 1)
    poller = await server.poller(name)
    job = await poller.take()

    assert data(await poller.report(job["grading_job_id"], success=success)) is None
    assert await server.jobs(run_id) == {job["grading_job_id"]: state}
    assert await server.state(run_id) == FINISHED
    assert not (await server.worker(name))["busy"]


async def test_w3_an_engine_that_failed_fails_the_job_as_any_other_failure(server: Server, name: str) -> None:
    """This is the original grader's report when a container cannot be started; there is one attempt here."""
    run_id = await submit(server, name, 1)
    poller = await server.poller(name)
    logs = {"stdout": "The container crashed", "stderr": "no such image"}

    await poller.finish(await poller.take(), success=False, results=[{"success": False}], logs=logs)

    assert list((await server.jobs(run_id)).values()) == [JOB_FAILED]
    assert await server.state(run_id) == FINISHED


async def test_w3_an_unknown_job_is_refused(server: Server, name: str) -> None:
    poller = await server.poller(name)

    for job_id in (NOBODY, "malformed", ""):
        assert is_refused(await poller.report(job_id), 400, NOT_FOUND_JOB)


async def test_w3_a_job_that_is_not_running_is_refused(server: Server, name: str) -> None:
    run_id = await submit(server, name, 2)
    poller = await server.poller(name)
    first, second = await server.jobs(run_id)
    await poller.grade()

    for job_id in (first, second):
        assert is_refused(await poller.report(job_id, success=False), 400, NOT_STARTED)
    assert await server.jobs(run_id) == {first: SUCCEEDED, second: QUEUED}


@pytest.mark.parametrize("logs", [{}, {"stdout": "out"}, {"stderr": "err"}, {"stdout": "a\r\n\u2028é", "stderr": "\0"}])
async def test_w3_both_logs_are_optional(server: Server, name: str, logs: dict[str, str]) -> None:
    await submit(server, name, 1)
    poller = await server.poller(name)
    job = await poller.take()

    await poller.finish(job, logs=logs)

    shown = data(await server.client.get(f"grading_job_log/{COURSE}/{job['grading_job_id']}", token=token_of(COURSE)))
    assert shown == {"stdout": "", "stderr": ""} | logs


@pytest.mark.parametrize(
    "wrong",
    [
        {"logs": {"stdout": "a", "other": "b"}},
        {"logs": {"stdout": 1}},
        {"logs": {"stderr": None}},
        {"logs": []},
        {"results": {}},
        {"results": [1]},
        {"success": "yes"},
        {"success": None},
        {"grading_job_id": 1},
        {"unknown": 1},
    ],
)
async def test_w3_a_result_of_another_shape_changes_nothing(server: Server, name: str, wrong: Any) -> None:
    """Bug 9: odd keys in ``logs`` were refused after the job had ended, and left the run hanging."""
    run_id = await submit(server, name, 1)
    poller = await server.poller(name)
    job = await poller.take()

    assert is_invalid(await poller.report(job["grading_job_id"], **wrong))
    assert await server.jobs(run_id) == {job["grading_job_id"]: STARTED}
    await poller.finish(job)
    assert await server.state(run_id) == FINISHED


@pytest.mark.parametrize("missing", ["grading_job_id", "success", "results", "logs"])
async def test_w3_all_keys_are_required(server: Server, name: str, missing: str) -> None:
    poller = await server.poller(name)
    body = result(NOBODY)
    del body[missing]

    assert is_invalid(await poller.tell(body))


async def test_w3_only_the_worker_that_has_a_job_may_report_it(server: Server, name: str) -> None:
    """Bug 8: a result was accepted from any worker."""
    run_id = await submit(server, name, 2)
    holder, other = await server.poller(name), await server.poller(f"{name}-other")
    job, others_job = await holder.take(), await other.take()

    answer = await other.report(job["grading_job_id"], success=False)

    assert (answer.status_code, answer.json()["status"]) == (400, "fail")
    assert list((await server.jobs(run_id)).values()) == [STARTED, STARTED]
    assert (await server.worker(f"{name}-other"))["busy"]
    await holder.finish(job)
    assert await server.state(run_id) == STUDENTS
    await other.finish(others_job, success=False)
    assert list((await server.jobs(run_id)).values()) == [SUCCEEDED, JOB_FAILED]


# Heartbeats, W4


@pytest.mark.parametrize("body", [b"", b"{", {}, {"anything": [1]}, [None]])
async def test_w4_ignores_its_body(server: Server, name: str, body: Any) -> None:
    poller = await server.poller(name)

    answer = await poller.beat(body)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/json"

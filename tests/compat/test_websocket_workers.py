"""Section 5 of the reference: graders that speak WebSocket, W5."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
import websockets
from compat.protocol import (
    CLUSTER_TOKEN,
    COURSE,
    FAILED,
    FINISHED,
    JOB_FAILED,
    NO_LOG,
    NOBODY,
    NOT_FOUND_JOB,
    NOT_STARTED,
    QUEUED,
    STARTED,
    SUCCEEDED,
    Server,
    Socket,
    bearer,
    data,
    is_refused,
    result,
)
from harness import stage, token_of, until

INTERNAL_ERROR = (1011, "internal error")


async def submit(server: Server, name: str, students: int) -> str:
    await server.client.register(COURSE, name, students=[stage()])
    return await server.client.submit(COURSE, name, students=students)


# 5.1 connection


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "invalid token format"),
        (CLUSTER_TOKEN, "invalid token format"),
        (f"bearer {CLUSTER_TOKEN}", "invalid token format"),
        (f"Bearer  {CLUSTER_TOKEN}", "invalid token format"),
        (f"Bearer {CLUSTER_TOKEN} more", "invalid token format"),
        ("Bearer wrong", "invalid token"),
        ("Bearer staff-241", "invalid token"),
    ],
)
async def test_a_bad_token_is_refused_after_the_upgrade(
    server: Server, name: str, authorization: str | None, reason: str
) -> None:
    async with Socket.open(server, name, authorization=authorization) as socket:
        assert socket.connection.response
        assert socket.connection.response.status_code == 101
        assert await socket.closing() == (1008, reason)


async def test_plain_http_is_refused_with_a_hint(server: Server, name: str) -> None:
    for headers in ({}, bearer(CLUSTER_TOKEN)):
        answer = await server.http.get(f"/api/v1/worker_ws/{name}", headers=headers)

        assert (answer.status_code, answer.text) == (400, 'Can "Upgrade" only to "WebSocket".')


async def test_other_origins_are_forbidden(server: Server, name: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with Socket.open(server, name, headers={"Origin": "http://elsewhere.example"}):
            pass
    assert refused.value.response.status_code == 403
    async with Socket.open(server, name, headers={"Origin": f"http://127.0.0.1:{server.port}"}) as socket:
        assert await socket.hears_nothing()


async def test_a_name_of_other_characters_is_not_found(server: Server) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with Socket.open(server, "a.b"):
            pass
    assert refused.value.response.status_code == 404


async def test_the_server_sends_nothing_before_a_worker_registers(server: Server, name: str) -> None:
    run_id = await submit(server, name, 1)
    async with Socket.open(server, name) as socket:
        assert await socket.hears_nothing()
        assert list((await server.jobs(run_id)).values()) == [QUEUED]


# 5.2 messages


async def test_registering_is_acknowledged_before_the_first_job_comes(server: Server, name: str) -> None:
    await submit(server, name, 1)
    async with Socket.join(server, name) as socket:  # receives the acknowledgement, and checks that it is complete
        assert set(await socket.hear()) == {"grading_job_id", "stages"}


async def test_binary_frames_are_understood(server: Server, name: str) -> None:
    async with Socket.open(server, name) as socket:
        message = {"type": "register", "args": {"hostname": f"{name}.example"}}
        await socket.connection.send(json.dumps(message).encode())
        assert await socket.hear() == {"success": True}
    await server.dead(name)


async def test_a_job_is_pushed_as_it_would_be_polled(server: Server, name: str) -> None:
    both = [stage(env={"A": 1}, logs=True), {"image": "b"}]
    await server.client.register(COURSE, name, students=both)
    poller = await server.poller(f"{name}-poller")
    run_id = await server.client.submit(COURSE, name, students=2)
    polled = await poller.take()
    async with Socket.join(server, name) as socket:
        pushed = await socket.hear()

    text = json.dumps(polled).replace(polled["grading_job_id"], pushed["grading_job_id"]).replace('"s0"', '"s1"')
    assert pushed == json.loads(text)
    assert list(await server.jobs(run_id)) == [polled["grading_job_id"], pushed["grading_job_id"]]


async def test_one_job_at_a_time_and_the_next_one_after_its_result(server: Server, name: str) -> None:
    async with Socket.join(server, name) as socket:
        run_id = await submit(server, name, 3)
        taken = []
        for success in (True, False, True):
            job = await socket.hear()
            taken.append(job["grading_job_id"])
            assert await socket.hears_nothing()
            assert list((await server.jobs(run_id)).values()).count(STARTED) == 1
            await socket.report(job, success=success)

        assert await socket.hears_nothing()
    assert taken == list(await server.jobs(run_id))
    assert list((await server.jobs(run_id)).values()) == [SUCCEEDED, JOB_FAILED, SUCCEEDED]
    assert await server.state(run_id) == FINISHED


async def test_a_result_has_a_log(server: Server, name: str) -> None:
    await submit(server, name, 1)
    async with Socket.join(server, name) as socket:
        job = await socket.hear()
        await socket.report(job, logs={"stdout": "out"})
        path = f"grading_job_log/{COURSE}/{job['grading_job_id']}"

        async def has_log() -> bool:
            return (await server.client.get(path, token=token_of(COURSE))).status_code == 200

        await until(has_log)
    assert data(await server.client.get(path, token=token_of(COURSE))) == {"stdout": "out", "stderr": ""}


async def test_a_worker_is_busy_while_it_has_a_job(server: Server, name: str) -> None:
    async with Socket.join(server, name) as socket:
        assert await server.worker(name) == {
            "hostname": f"{name}.example",
            "jobs_processed": 0,
            "busy": False,
            "alive": True,
        }
        await submit(server, name, 1)
        await socket.hear()
        worker = await server.worker(name)
        assert (worker["busy"], worker["jobs_processed"]) == (True, 1)
    worker = await server.worker(name)
    assert (worker["busy"], worker["alive"]) == (False, False)


# 5.3 close codes and reasons


async def test_a_living_workers_id_is_taken(server: Server, name: str) -> None:
    run_id = await submit(server, name, 1)
    async with Socket.join(server, name) as first:
        job = await first.hear()
        async with Socket.open(server, name) as second:
            assert await second.register() == {"success": False}
            assert await second.closing() == (1002, f"worker id '{name}' already exists")

        assert (await server.worker(name))["alive"]
        assert await server.jobs(run_id) == {job["grading_job_id"]: STARTED}
        await first.report(job)
        await server.turns(run_id, FINISHED)


async def test_an_id_is_taken_by_a_polling_worker_too(server: Server, name: str) -> None:
    poller = await server.poller(name)
    async with Socket.open(server, name) as socket:
        assert await socket.register() == {"success": False}
        assert await socket.closing() == (1002, f"worker id '{name}' already exists")
    assert (await poller.beat()).status_code == 200
    assert (await server.worker(name))["alive"]


async def test_a_second_registration_is_refused(server: Server, name: str) -> None:
    async with Socket.join(server, name) as socket:
        assert await socket.register() == {"success": False}
        assert await socket.closing() == (1002, f"worker id '{name}' already exists")


async def test_a_result_before_registering_is_refused(server: Server, name: str) -> None:
    async with Socket.open(server, name) as socket:
        await socket.say("job_result", result(NOBODY))
        assert await socket.closing() == (1002, "submitting before registering")


@pytest.mark.parametrize("job_id", [NOBODY, "malformed", ""])
async def test_a_result_of_a_job_that_does_not_exist_is_refused(server: Server, name: str, job_id: str) -> None:
    async with Socket.join(server, name) as socket:
        await socket.say("job_result", result(job_id))
        assert await socket.closing() == (1002, NOT_FOUND_JOB)


@pytest.mark.parametrize("which", ["finished", "queued"])
async def test_a_result_of_a_job_that_does_not_run_is_refused(server: Server, name: str, which: str) -> None:
    run_id = await submit(server, name, 3)
    poller = await server.poller(f"{name}-poller")
    await poller.grade()
    finished, _, queued = await server.jobs(run_id)
    async with Socket.join(server, name) as socket:
        await socket.hear()
        await socket.say("job_result", result(finished if which == "finished" else queued, success=False))
        assert await socket.closing() == (1002, NOT_STARTED)
    states = await server.jobs(run_id)
    assert (states[finished], states[queued]) == (SUCCEEDED, QUEUED)


async def test_a_refused_result_does_not_fail_the_workers_running_job(server: Server, name: str) -> None:
    """Bug 22: the refusal failed the running job."""
    run_id = await submit(server, name, 1)
    async with Socket.join(server, name) as socket:
        job = await socket.hear()
        await socket.say("job_result", result(NOBODY))
        assert await socket.closing() == (1002, NOT_FOUND_JOB)

    assert await server.jobs(run_id) == {job["grading_job_id"]: STARTED}
    async with Socket.join(server, name) as socket:
        await socket.report(job)
        await server.turns(run_id, FINISHED)
    assert await server.jobs(run_id) == {job["grading_job_id"]: SUCCEEDED}


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        b"\xff",
        "[]",
        "null",
        '{"type": "register"}',
        '{"args": {}}',
        '{"type": "register", "args": []}',
        '{"type": "register", "args": {}}',
        '{"type": "register", "args": {"hostname": 1}}',
        '{"type": "register", "args": {"hostname": "h", "unknown": 1}}',
        '{"type": "register", "args": {"hostname": "h"}, "unknown": 1}',
        '{"type": "unknown", "args": {}}',
        '{"type": 1, "args": {}}',
    ],
)
async def test_a_message_of_another_shape_closes_the_connection(
    server: Server, name: str, message: str | bytes
) -> None:
    async with Socket.open(server, name) as socket:
        await socket.connection.send(message)
        assert await socket.closing() == INTERNAL_ERROR


@pytest.mark.parametrize(
    "wrong",
    [
        {"logs": {"other": "x"}},
        {"logs": {"stdout": None}},
        {"logs": None},
        {"results": [1]},
        {"success": 1},
        {"grading_job_id": None},
        {"unknown": 1},
    ],
)
async def test_a_result_of_another_shape_ends_the_worker(server: Server, name: str, wrong: Any) -> None:
    """The run continues with the job as failed, since there is one attempt here. Bug 9: the run hung."""
    run_id = await submit(server, name, 1)
    async with Socket.join(server, name) as socket:
        await socket.report(await socket.hear(), **wrong)
        assert await socket.closing() == INTERNAL_ERROR
    await server.turns(run_id, FINISHED)

    assert list((await server.jobs(run_id)).values()) == [JOB_FAILED]


async def test_a_message_that_is_too_big_closes_the_connection(server: Server, name: str) -> None:
    async with Socket.open(server, name) as socket:
        with contextlib.suppress(websockets.ConnectionClosed):  # the close may come while the message is being sent
            await socket.connection.send(b" " * (10 * 1024 * 1024 + 1))
        assert await socket.closing() == (1009, "message too big")


# 5.4 liveness and re-registering


async def test_a_closed_connection_is_a_dead_worker_and_a_failed_job(server: Server, name: str) -> None:
    """Such a job has no log (3.6), and its result is refused (10)."""
    run_id = await submit(server, name, 1)
    async with Socket.join(server, name) as socket:
        job = await socket.hear()
    await server.turns(run_id, FINISHED)

    assert await server.jobs(run_id) == {job["grading_job_id"]: JOB_FAILED}
    log = await server.client.get(f"grading_job_log/{COURSE}/{job['grading_job_id']}", token=token_of(COURSE))
    assert is_refused(log, 400, NO_LOG)
    async with Socket.join(server, name) as socket:
        await socket.report(job)
        assert await socket.closing() == (1002, NOT_STARTED)


async def test_a_connection_that_breaks_counts_as_closed(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[stage()], pre_processing_pipeline=[stage()])
    run_id = await server.client.submit(COURSE, name, students=1)
    async with Socket.join(server, name) as socket:
        await socket.hear()
        socket.connection.transport.abort()
        await server.turns(run_id, FAILED)


async def test_whenever_a_connection_is_closed_its_worker_is_dead_at_once(server: Server, name: str) -> None:
    """This holds at every moment of the registration."""

    async def come_and_go(number: int) -> None:
        async with Socket.open(server, f"{name}-{number}") as socket:
            await socket.register()
            await asyncio.sleep(number / 1000)

    await asyncio.gather(*map(come_and_go, range(30)))
    for number in range(30):
        await server.dead(f"{name}-{number}")


async def test_a_dead_workers_id_may_register_again_on_either_protocol(server: Server, name: str) -> None:
    """Bug 12: an id that was once registered over HTTP never got a job over WebSocket."""
    async with Socket.join(server, name):
        pass
    poller = await server.poller(name)
    run_id = await submit(server, name, 1)
    await poller.grade()
    assert await server.state(run_id) == FINISHED
    assert (await server.worker(name))["jobs_processed"] == 1


async def test_a_new_connection_has_the_new_host(server: Server, name: str) -> None:
    async with Socket.join(server, name):
        pass
    async with Socket.open(server, name) as socket:
        await socket.say("register", {"hostname": f"{name}-moved.example"})
        assert await socket.hear() == {"success": True}
        assert (await server.worker(f"{name}-moved"))["alive"]
    await server.dead(f"{name}-moved")

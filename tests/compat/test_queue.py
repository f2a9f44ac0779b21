"""Section 9 of the reference: the order of the jobs, and the moments when jobs are pushed."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from compat.protocol import (
    COURSE,
    FINISHED,
    JOB_FAILED,
    OTHER_COURSE,
    PATIENT,
    POST,
    SUCCEEDED,
    THIRD_COURSE,
    Server,
    Socket,
    data,
    serving,
)
from harness import Place, stage, token_of


@pytest.fixture
async def quiet_server(place: Place, tmp_path: Path) -> AsyncIterator[Server]:
    """A server without registered workers; with more of them, it would dispatch further ahead."""
    async with serving(place, tmp_path, *PATIENT) as server:
        yield server


async def position(server: Server, job_id: str) -> int | None:
    """Return a job's position in its queue, or None if it does not wait."""
    answer = await server.client.get(f"queue/{COURSE}/{job_id}/position", token=token_of(COURSE))
    return int(data(answer)["position"]) if answer.status_code == 200 else None


async def test_a_courses_jobs_are_served_in_the_order_of_submission(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[stage()])
    runs = [await server.client.submit(COURSE, name, students=3) for _ in range(2)]
    jobs = [job for run_id in runs for job in await server.jobs(run_id)]
    poller = await server.poller(name)
    seen = []
    for number in range(len(jobs)):
        assert await server.length() == len(jobs) - number
        seen.append([await position(server, job) for job in jobs])
        assert (await poller.take())["grading_job_id"] == jobs[number]

    assert await server.length() == 0
    assert seen == [[None] * taken + list(range(len(jobs) - taken)) for taken in range(len(jobs))]


async def test_jobs_of_later_phases_queue_behind_waiting_jobs(server: Server, name: str) -> None:
    """Pre-processing, students and post-processing share the course's queue."""
    both = {f"{kind}_processing_pipeline": [stage()] for kind in ("pre", "post")}
    await server.client.register(COURSE, name, students=[stage()], **both)
    first, second = [await server.client.submit(COURSE, name, students=2) for _ in range(2)]
    poller = await server.poller(name)

    async def phase_of_next() -> tuple[str, str]:
        job = await poller.take()
        await poller.finish(job)
        for run_id, which in ((first, "first"), (second, "second")):
            status = await server.client.status(COURSE, run_id)
            for phase in ("pre_processing_job_state", "student_jobs_state", "post_processing_job_state"):
                if job["grading_job_id"] in (status[phase] or {}):
                    return which, phase.partition("_")[0]
        raise AssertionError("a job of neither run")

    assert [await phase_of_next() for _ in range(8)] == [
        ("first", "pre"),
        ("second", "pre"),
        *[("first", "student")] * 2,
        *[("second", "student")] * 2,
        ("first", "post"),
        ("second", "post"),
    ]


async def test_courses_take_turns(quiet_server: Server) -> None:
    """Four and two jobs are queued while another course's job is next; the order is c1 c2 c1 c2 c1 c1."""
    poller = await quiet_server.poller("poller")
    for course in (COURSE, OTHER_COURSE, THIRD_COURSE):  # each has been served once, and is known
        await quiet_server.client.register(course, "mp1", students=[stage()])
        await quiet_server.client.submit(course, "mp1", students=1)
        await poller.take()
    courses: dict[str, str] = {}
    for course, students in ((THIRD_COURSE, 1), (COURSE, 4), (OTHER_COURSE, 2)):
        run_id = await quiet_server.client.submit(course, "mp1", students=students)
        courses |= dict.fromkeys(await quiet_server.jobs(run_id, course), course)

    served = [courses[(await poller.take())["grading_job_id"]] for _ in courses]

    assert served == [THIRD_COURSE, COURSE, OTHER_COURSE, COURSE, OTHER_COURSE, COURSE, COURSE]


async def test_a_connected_worker_gets_the_job_before_a_poll(server: Server, name: str) -> None:
    """Jobs are pushed eagerly."""
    poller = await server.poller(f"{name}-poller")
    async with Socket.join(server, name) as socket:
        await server.client.register(COURSE, name, students=[stage()])
        run_id = await server.client.submit(COURSE, name, students=1)
        job = await socket.hear()

        assert (await poller.poll()).status_code == 498
        await socket.report(job)
        await server.turns(run_id, FINISHED)


async def test_every_idle_worker_gets_one_job(server: Server, name: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(Socket.join(server, f"{name}-{n}")) for n in range(3)]
        await server.client.register(COURSE, name, students=[stage()])
        run_id = await server.client.submit(COURSE, name, students=4)

        jobs = [(await socket.hear())["grading_job_id"] for socket in sockets]

        assert sorted(jobs) == sorted(list(await server.jobs(run_id))[:3])
        assert await server.length() == 1


async def test_jobs_that_follow_on_a_polled_result_are_pushed(server: Server, name: str) -> None:
    """Bug 4: after an HTTP result, the next phase's jobs sat beside idle WebSocket workers."""
    poller = await server.poller(f"{name}-poller")
    both = {f"{kind}_processing_pipeline": [stage()] for kind in ("pre", "post")}
    await server.client.register(COURSE, name, students=[stage()], **both)
    run_id = await server.client.submit(COURSE, name, students=1)
    before = await poller.take()
    async with Socket.join(server, name) as socket:
        await poller.finish(before)
        await socket.report(await socket.hear())
        await server.turns(run_id, POST)
        await socket.report(await socket.hear())
        await server.turns(run_id, FINISHED)


async def test_jobs_that_follow_on_a_death_are_pushed(server: Server, name: str) -> None:
    """Bug 4: the same after a worker's death."""
    await server.client.register(COURSE, name, students=[stage()], post_processing_pipeline=[stage()])
    run_id = await server.client.submit(COURSE, name, students=1)
    async with contextlib.AsyncExitStack() as stack:
        async with Socket.join(server, f"{name}-dying") as dying:
            await dying.hear()
            idle = await stack.enter_async_context(Socket.join(server, name))
        await idle.report(await idle.hear())
        await server.turns(run_id, FINISHED)
    assert list((await server.jobs(run_id)).values()) == [JOB_FAILED]


# Starts and restarts of the API, whose queues were in memory in the original. The server has its defaults here.

QUICK_TO_TAKE_OVER = ("--leader-ttl", "2")


@pytest.fixture
async def own_server(place: Place, tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(place, tmp_path, *QUICK_TO_TAKE_OVER) as server:
        yield server


async def test_a_server_that_has_just_started_serves_every_course(own_server: Server) -> None:
    """Submitted jobs can be polled at once (3.2)."""
    poller = await own_server.poller("poller")
    for course in (COURSE, OTHER_COURSE, THIRD_COURSE):
        await own_server.client.register(course, "mp1", students=[stage()])
        run_id = await own_server.client.submit(course, "mp1", students=1)
        await poller.grade()
        assert await own_server.state(run_id, course) == FINISHED


async def test_a_restart_loses_nothing(own_server: Server) -> None:
    """Bug 2: all queued jobs were lost. Bug 3: a worker that had a job never got another one.

    WebSocket workers are dead until they reconnect, polling workers stay alive (10). The worker reports the job that it
    ran during the outage (5.4); then it gets the remaining ones.
    """
    client = own_server.client
    await client.register(COURSE, "mp1", students=[stage()])
    run_id = await client.submit(COURSE, "mp1", students=3)
    first, second, third = await own_server.jobs(run_id)
    await own_server.poller("poller")
    async with Socket.open(own_server, "worker") as socket:
        await socket.register()
        job = await socket.hear()
        await own_server.processes.kill("api")
    await own_server.start()

    await own_server.dead("worker")
    assert (await own_server.worker("poller"))["alive"]
    assert await own_server.length() == 2
    assert [await position(own_server, each) for each in (first, second, third)] == [None, 0, 1]
    async with Socket.join(own_server, "worker") as socket:
        await socket.report(job)
        for expected in (second, third):
            job = await socket.hear()
            assert job["grading_job_id"] == expected
            await socket.report(job)
        await own_server.turns(run_id, FINISHED)
    assert await own_server.jobs(run_id) == dict.fromkeys((first, second, third), SUCCEEDED)


async def test_by_default_a_job_is_retried_when_its_worker_dies(own_server: Server) -> None:
    """Section 7's row on a worker's death holds for one attempt, which all other tests have; this tests the default."""
    await own_server.client.register(COURSE, "mp1", students=[stage()])
    run_id = await own_server.client.submit(COURSE, "mp1", students=1)
    async with Socket.join(own_server, "dying") as socket:
        job = await socket.hear()
    async with Socket.join(own_server, "next") as socket:
        assert await socket.hear() == job
        await socket.report(job)
        await own_server.turns(run_id, FINISHED)
    assert await own_server.jobs(run_id) == {job["grading_job_id"]: SUCCEEDED}

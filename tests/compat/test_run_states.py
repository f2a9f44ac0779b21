"""Section 7 of the reference: the state machine of a run, row by row, and of its jobs.

Each state is read right after the answer to the result that causes it, which is stricter than the original.
"""

import contextlib
from typing import Any

import pytest
from compat.protocol import (
    COURSE,
    FAILED,
    FINISHED,
    JOB_FAILED,
    NOT_STARTED,
    POST,
    PRE,
    QUEUED,
    STARTED,
    STUDENTS,
    SUCCEEDED,
    Server,
    Socket,
    is_refused,
)
from harness import stage


async def submit(server: Server, name: str, *, students: int, pre: bool = False, post: bool = False) -> str:
    """Submit a run; each test has its own assignment."""
    more: dict[str, Any] = {}
    if pre:
        more["pre_processing_pipeline"] = [stage()]
    if post:
        more["post_processing_pipeline"] = [stage()]
    await server.client.register(COURSE, name, students=[stage()], **more)
    return await server.client.submit(COURSE, name, students=students)


async def test_the_ready_state_is_never_visible(server: Server, name: str) -> None:
    run_id = await submit(server, name, students=1, pre=True)

    status = await server.client.status(COURSE, run_id)

    assert (status["state"], list(status["pre_processing_job_state"].values())) == (PRE, [QUEUED])


async def test_without_a_pre_processing_pipeline_a_run_begins_with_its_students(server: Server, name: str) -> None:
    run_id = await submit(server, name, students=1, post=True)

    assert await server.state(run_id) == STUDENTS


async def test_pre_processing_succeeds_and_the_students_follow_in_order(server: Server, name: str) -> None:
    run_id = await submit(server, name, students=3, pre=True)
    poller = await server.poller(name)
    await poller.grade()

    assert await server.state(run_id) == STUDENTS
    jobs = await server.jobs(run_id)
    assert list(jobs.values()) == [QUEUED] * 3
    assert [(await poller.take())["grading_job_id"] for _ in range(3)] == list(jobs)


async def test_pre_processing_fails_and_so_does_the_run_without_any_student(server: Server, name: str) -> None:
    run_id = await submit(server, name, students=2, pre=True, post=True)
    poller = await server.poller(name)
    await poller.grade(success=False)

    status = await server.client.status(COURSE, run_id)
    assert (status["state"], status["student_jobs_state"], status["post_processing_job_state"]) == (FAILED, {}, None)
    assert list(status["pre_processing_job_state"].values()) == [JOB_FAILED]
    assert (await poller.poll()).status_code == 498


@pytest.mark.parametrize("last", [True, False])
async def test_the_last_student_ends_the_phase_and_the_run(server: Server, name: str, last: bool) -> None:
    run_id = await submit(server, name, students=3)
    poller = await server.poller(name)
    states = []
    for success in (True, False, last):
        await poller.grade(success=success)
        states.append(await server.state(run_id))

    assert states == [STUDENTS, STUDENTS, FINISHED]
    assert list((await server.jobs(run_id)).values()) == [SUCCEEDED, JOB_FAILED, SUCCEEDED if last else JOB_FAILED]


async def test_a_run_is_complete_even_if_every_student_failed(server: Server, name: str) -> None:
    run_id = await submit(server, name, students=2, pre=True, post=True)
    poller = await server.poller(name)
    states = []
    for success in (True, False, False, True):
        await poller.grade(success=success)
        states.append(await server.state(run_id))

    assert states == [STUDENTS, STUDENTS, POST, FINISHED]


@pytest.mark.parametrize(("success", "state"), [(True, FINISHED), (False, FAILED)])
async def test_post_processing_decides_the_outcome_of_the_run(
    server: Server, name: str, success: bool, state: str
) -> None:
    run_id = await submit(server, name, students=1, post=True)
    poller = await server.poller(name)
    await poller.grade()
    assert await server.state(run_id) == POST

    await poller.grade(success=success)

    status = await server.client.status(COURSE, run_id)
    assert status["state"] == state
    assert list(status["post_processing_job_state"].values()) == [SUCCEEDED if success else JOB_FAILED]


@pytest.mark.parametrize("success", [True, False])
async def test_nothing_leaves_the_last_state(server: Server, name: str, success: bool) -> None:
    run_id = await submit(server, name, students=1, pre=not success)
    poller = await server.poller(name)
    job = await poller.take()
    await poller.finish(job, success=success)
    before = await server.client.status(COURSE, run_id)

    assert is_refused(await poller.report(job["grading_job_id"], success=not success), 400, NOT_STARTED)

    assert await server.client.status(COURSE, run_id) == before
    assert before["state"] == (FINISHED if success else FAILED)


@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize("post", [False, True])
async def test_a_run_with_an_empty_roster_continues_at_once(server: Server, name: str, pre: bool, post: bool) -> None:
    """Bug 10: the run stayed in the students' phase forever."""
    run_id = await submit(server, name, students=0, pre=pre, post=post)
    poller = await server.poller(name)
    for _ in range(pre + post):
        await poller.grade()

    status = await server.client.status(COURSE, run_id)
    assert (status["state"], status["student_jobs_state"]) == (FINISHED, {})
    assert (status["pre_processing_job_state"] is not None, status["post_processing_job_state"] is not None) == (
        pre,
        post,
    )


async def test_a_job_is_running_before_its_grader_gets_it(server: Server, name: str) -> None:
    run_id = await submit(server, name, students=2)
    poller = await server.poller(name)

    job = await poller.take()

    assert list((await server.jobs(run_id)).values()) == [STARTED, QUEUED]
    await poller.finish(job)
    async with Socket.join(server, f"{name}-socket") as socket:
        await socket.hear()
        assert list((await server.jobs(run_id)).values()) == [SUCCEEDED, STARTED]


# A worker dies: the original never retries a job, and neither does a server with one attempt


async def die_with_a_job(server: Server, name: str) -> None:
    """Let a worker take a job, and disconnect it without a report."""
    async with contextlib.AsyncExitStack() as stack:
        socket = await stack.enter_async_context(Socket.join(server, name))
        await socket.hear()


async def test_a_worker_dies_while_pre_processing_and_the_run_fails(server: Server, name: str) -> None:
    run_id = await submit(server, name, students=1, pre=True)
    await die_with_a_job(server, name)
    await server.turns(run_id, FAILED)

    status = await server.client.status(COURSE, run_id)
    assert (list(status["pre_processing_job_state"].values()), status["student_jobs_state"]) == ([JOB_FAILED], {})


async def test_a_worker_dies_with_a_students_job_and_the_run_is_complete(server: Server, name: str) -> None:
    run_id = await submit(server, name, students=2)
    await (await server.poller(f"{name}-poller")).grade()
    await die_with_a_job(server, name)
    await server.turns(run_id, FINISHED)

    assert list((await server.jobs(run_id)).values()) == [SUCCEEDED, JOB_FAILED]


async def test_a_worker_dies_while_post_processing_and_the_run_fails(server: Server, name: str) -> None:
    run_id = await submit(server, name, students=1, post=True)
    await (await server.poller(f"{name}-poller")).grade()
    await die_with_a_job(server, name)
    await server.turns(run_id, FAILED)

    status = await server.client.status(COURSE, run_id)
    assert list(status["post_processing_job_state"].values()) == [JOB_FAILED]

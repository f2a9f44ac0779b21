"""Section 3 of the reference: the requests of the courses' clients, C1 to C9."""

from typing import Any

import httpx2
import pytest
from compat.protocol import (
    COURSE,
    FINISHED,
    JOB_FAILED,
    NO_LOG,
    NOBODY,
    NOT_FOUND_JOB,
    NOT_FOUND_RUN,
    OTHER_COURSE,
    POST,
    PRE,
    QUEUED,
    STARTED,
    STUDENTS,
    SUCCEEDED,
    Server,
    data,
    is_invalid,
    is_refused,
    query_token_of,
)
from harness import stage, token_of

NO_ASSIGNMENT = "assignment configuration not found"
EVERY_KEY = {
    "image": "a",
    "env": {"A": 1, "B": [None, {"C": 0.5}]},
    "entrypoint": ["sh", "-c", "true"],
    "networking": False,
    "privileged": False,
    "hostname": "h",
    "timeout": 1.5,
    "cpuset_cpus": "0,1",
    "memory": "64m",
    "logs": False,
}


async def get(server: Server, path: str, course: str = COURSE) -> httpx2.Response:
    return await server.client.get(path, token=token_of(course))


async def post(server: Server, path: str, body: Any) -> httpx2.Response:
    return await server.client.post(path, body, token=token_of(COURSE))


# Grading config, C1 and C2


async def test_c1_a_config_comes_back_as_it_was_posted(server: Server, name: str) -> None:
    config = {
        "student_pipeline": [EVERY_KEY, {"image": "b", "timeout": 30}],
        "pre_processing_pipeline": [{"image": "c"}],
        "post_processing_pipeline": [{"image": "d", "env": {}}],
        "env": {"LAYER": "config", "ü": "é"},
    }

    assert data(await post(server, f"grading_config/{COURSE}/{name}", config)) is None
    answer = await get(server, f"grading_config/{COURSE}/{name}")
    assert data(answer) == config
    assert '"timeout":30}' in answer.text


async def test_c2_has_all_four_keys(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[{"image": "a"}])

    assert data(await get(server, f"grading_config/{COURSE}/{name}")) == {
        "env": None,
        "student_pipeline": [{"image": "a"}],
        "pre_processing_pipeline": None,
        "post_processing_pipeline": None,
    }


@pytest.mark.parametrize("key", ["env", "pre_processing_pipeline", "post_processing_pipeline"])
async def test_c1_all_but_the_students_pipeline_may_be_null(server: Server, name: str, key: str) -> None:
    body = {"student_pipeline": [{"image": "a"}], key: None}

    assert data(await post(server, f"grading_config/{COURSE}/{name}", body)) is None
    assert data(await get(server, f"grading_config/{COURSE}/{name}"))[key] is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"student_pipeline": [{"image": "a"}], "unknown": 1},
        {"student_pipeline": {}},
        {"student_pipeline": [{"image": "a"}], "env": []},
        {"student_pipeline": [{"image": "a"}], "pre_processing_pipeline": {}},
        {"student_pipeline": [{"image": "a"}], "post_processing_pipeline": [1]},
        *[
            {"student_pipeline": [{"image": "a", **wrong}]}
            for wrong in (
                {"image": 1},
                {"unknown": 1},
                {"env": None},
                {"env": []},
                {"entrypoint": "sh"},
                {"entrypoint": [1]},
                {"networking": "yes"},
                {"privileged": 0},
                {"hostname": 1},
                {"timeout": True},
                {"timeout": "30"},
                {"cpuset_cpus": 0},
                {"memory": 2},
                {"logs": None},
            )
        ],
        {"student_pipeline": [{"env": {}}]},
    ],
)
async def test_c1_a_config_of_another_shape_is_refused_and_the_old_one_stays(
    server: Server, name: str, body: Any
) -> None:
    await server.client.register(COURSE, name, students=[{"image": "old"}])

    assert is_invalid(await post(server, f"grading_config/{COURSE}/{name}", body))
    assert data(await get(server, f"grading_config/{COURSE}/{name}"))["student_pipeline"] == [{"image": "old"}]


@pytest.mark.parametrize("pipeline", [None, [], [None], [{"image": "a"}, None]])
async def test_c1_pipelines_that_could_not_run_are_refused(server: Server, name: str, pipeline: Any) -> None:
    """Bug 10: null and empty pipelines were accepted, and broke runs and graders."""
    assert is_invalid(await post(server, f"grading_config/{COURSE}/{name}", {"student_pipeline": pipeline}))
    assert is_refused(await get(server, f"grading_config/{COURSE}/{name}"), 400, NO_ASSIGNMENT)


@pytest.mark.parametrize("env", [{"a.b": 1}, {"$a": 1}, {"A": {"$b": 1}}, {"A": 2**64}, {"A": "x" * 17_000_000}])
async def test_c1_values_that_the_store_cannot_hold_are_refused_and_the_old_config_stays(
    server: Server, name: str, env: Any
) -> None:
    """Bug 14: the old config was deleted, the new one not stored, and the answer 200 or 500."""
    await server.client.register(COURSE, name, students=[{"image": "old"}])

    answer = await post(server, f"grading_config/{COURSE}/{name}", {"student_pipeline": [{"image": "new"}], "env": env})

    assert is_invalid(answer)
    assert data(await get(server, f"grading_config/{COURSE}/{name}"))["student_pipeline"] == [{"image": "old"}]
    assert is_invalid(await post(server, f"grading_run/{COURSE}/{name}", {"students_env": [env]}))
    assert await server.length() == 0


async def test_c1_replaces_the_whole_config(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[stage()], env={"A": 1}, pre_processing_pipeline=[stage()])
    await server.client.register(COURSE, name, students=[{"image": "b"}])

    config = data(await get(server, f"grading_config/{COURSE}/{name}"))
    assert config["student_pipeline"] == [{"image": "b"}]
    assert config["env"] is config["pre_processing_pipeline"] is None


async def test_c2_an_unknown_assignment_is_refused(server: Server, name: str) -> None:
    await server.client.register(OTHER_COURSE, name, students=[stage()])

    assert is_refused(await get(server, f"grading_config/{COURSE}/{name}"), 400, NO_ASSIGNMENT)


# Start a run, C3


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"students_env": {}},
        {"students_env": [1]},
        {"students_env": [None]},
        {"students_env": [], "unknown": 1},
        {"students_env": [], "pre_processing_env": None},
        {"students_env": [], "post_processing_env": None},
        {"students_env": [], "pre_processing_env": []},
    ],
)
async def test_c3_the_body_is_checked_first(server: Server, name: str, body: Any) -> None:
    assert is_invalid(await post(server, f"grading_run/{COURSE}/{name}", body))


async def test_c3_the_assignment_is_checked_next(server: Server, name: str) -> None:
    await server.client.register(OTHER_COURSE, name, students=[stage()])
    body = {"students_env": [{}], "pre_processing_env": {}}

    assert is_refused(await post(server, f"grading_run/{COURSE}/{name}", body), 400, NO_ASSIGNMENT)


@pytest.mark.parametrize("env", [{}, {"A": "1"}])
@pytest.mark.parametrize("pipeline", [{}, {"pre_processing_pipeline": None}, {"pre_processing_pipeline": []}])
async def test_c3_the_pre_and_then_the_post_processing_environment_is_checked_last(
    server: Server, name: str, env: dict[str, str], pipeline: dict[str, Any]
) -> None:
    await server.client.register(COURSE, name, students=[stage()], **pipeline)
    # The original lacks a blank after "no".
    message = (
        "{0}-processing runtime environment provided, but no {0}-processing stage was associated with this assignment"
    )
    both = {"students_env": [{}], "pre_processing_env": env, "post_processing_env": env}

    assert is_refused(await post(server, f"grading_run/{COURSE}/{name}", both), 400, message.format("pre"))
    del both["pre_processing_env"]
    assert is_refused(await post(server, f"grading_run/{COURSE}/{name}", both), 400, message.format("post"))
    assert await server.length() == 0


async def test_c3_a_run_is_in_every_read_and_pollable_once_it_is_answered(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[stage()])
    poller = await server.poller(name)

    answer = data(await post(server, f"grading_run/{COURSE}/{name}", {"students_env": [{}, {}]}))

    assert list(answer) == ["grading_run_id"]
    status = await server.client.status(COURSE, answer["grading_run_id"])
    first, second = status["student_jobs_state"]
    assert status["state"] == STUDENTS
    assert await server.length() == 2
    assert data(await get(server, f"queue/{COURSE}/{second}/position")) == {"position": 1}
    assert (await poller.take())["grading_job_id"] == first


# Run status, C4


async def test_c4_has_all_four_keys_in_every_phase(server: Server, name: str) -> None:
    both = {f"{kind}_processing_pipeline": [stage()] for kind in ("pre", "post")}
    await server.client.register(COURSE, name, students=[stage()], **both)
    run_id = await server.client.submit(COURSE, name, students=2)
    poller = await server.poller(name)
    seen = [await server.client.status(COURSE, run_id)]
    for success in (True, False, True, True):
        await poller.grade(success=success)
        seen.append(await server.client.status(COURSE, run_id))

    def states(jobs: dict[str, str] | None) -> list[str] | None:
        return None if jobs is None else list(jobs.values())

    keys = ["state", "pre_processing_job_state", "post_processing_job_state", "student_jobs_state"]
    assert all(sorted(status) == sorted(keys) for status in seen)
    assert [[status["state"], *(states(status[key]) for key in keys[1:])] for status in seen] == [
        [PRE, [QUEUED], None, []],
        [STUDENTS, [SUCCEEDED], None, [QUEUED, QUEUED]],
        [STUDENTS, [SUCCEEDED], None, [JOB_FAILED, QUEUED]],
        [POST, [SUCCEEDED], [QUEUED], [JOB_FAILED, SUCCEEDED]],
        [FINISHED, [SUCCEEDED], [SUCCEEDED], [JOB_FAILED, SUCCEEDED]],
    ]


async def test_c4_student_jobs_are_in_the_rosters_order(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[stage()])
    run_id = await server.client.submit(COURSE, name, students=12)

    environments = data(await get(server, f"grading_run_env/{COURSE}/{run_id}"))["student_env"]

    assert [environments[job]["STUDENT_ID"] for job in await server.jobs(run_id)] == [[f"s{n}"] for n in range(12)]


async def test_c4_shows_every_state_of_a_job(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[stage()])
    run_id = await server.client.submit(COURSE, name, students=4)
    poller = await server.poller(name)
    await poller.finish(await poller.take())
    await poller.finish(await poller.take(), success=False)
    await poller.take()

    assert list((await server.jobs(run_id)).values()) == [SUCCEEDED, JOB_FAILED, STARTED, QUEUED]


@pytest.mark.parametrize("endpoint", ["grading_run_status", "grading_run_env"])
async def test_c4_c5_an_unknown_run_is_refused(server: Server, endpoint: str) -> None:
    assert is_refused(await get(server, f"{endpoint}/{COURSE}/{NOBODY}"), 400, NOT_FOUND_RUN)


# Run environments, C5 (the values are the subject of section 8)


async def test_c5_lists_the_jobs_that_exist_so_far(server: Server, name: str) -> None:
    both = {f"{kind}_processing_pipeline": [stage()] for kind in ("pre", "post")}
    await server.client.register(COURSE, name, students=[stage()], **both)
    run_id = await server.client.submit(COURSE, name, students=1)
    poller = await server.poller(name)
    seen = []
    for _ in range(3):
        seen.append(data(await get(server, f"grading_run_env/{COURSE}/{run_id}")))
        await poller.grade()

    assert [
        [env["pre_processing_env"] is None, env["student_env"] == {}, env["post_processing_env"] is None]
        for env in seen
    ] == [[False, True, True], [False, False, True], [False, False, False]]
    status = await server.client.status(COURSE, run_id)
    assert list(seen[-1]["pre_processing_env"]) == list(status["pre_processing_job_state"])
    assert list(seen[-1]["student_env"]) == list(status["student_jobs_state"])
    assert list(seen[-1]["post_processing_env"]) == list(status["post_processing_job_state"])


async def test_c5_has_the_distinct_values_over_all_stages(server: Server, name: str) -> None:
    stages = [stage(env={"ONE": "1", "TWO": "a"}), stage(env={"ONE": "1", "TWO": "b", "LAST": 3})]
    await server.client.register(COURSE, name, students=stages)
    run_id = await server.client.submit(COURSE, name, students=1)
    (job_id,) = await server.jobs(run_id)

    environment = data(await get(server, f"grading_run_env/{COURSE}/{run_id}"))["student_env"][job_id]

    assert {variable: sorted(values) for variable, values in environment.items()} == {
        "ONE": ["1"],
        "TWO": ["a", "b"],
        "LAST": [3],
        "STUDENT_ID": ["s0"],
        "GRADING_RUN_ID": [run_id],
        "GRADING_JOB_ID": [job_id],
    }


async def test_c5_values_may_be_lists_and_objects(server: Server, name: str) -> None:
    """Bug 15: such values made the answer a 500."""
    await server.client.register(COURSE, name, students=[stage(env={"L": [1, [2]], "O": {"k": None}})] * 2)
    run_id = await server.client.submit(COURSE, name, students=1)

    (environment,) = data(await get(server, f"grading_run_env/{COURSE}/{run_id}"))["student_env"].values()

    assert (environment["L"], environment["O"]) == ([[1, [2]]], [{"k": None}])


# Job log, C6


async def test_c6_a_job_has_a_log_once_it_has_a_result(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[stage()])
    await server.client.submit(COURSE, name, students=1)
    poller = await server.poller(name)
    path = f"grading_job_log/{COURSE}"
    job = await poller.take()
    job_id = job["grading_job_id"]

    assert is_refused(await get(server, f"{path}/{NOBODY}"), 400, NO_LOG)
    assert is_refused(await get(server, f"{path}/{job_id}"), 400, NO_LOG)
    await poller.finish(job, success=False)
    assert data(await get(server, f"{path}/{job_id}")) == {
        "stderr": f"errors of {job_id}",
        "stdout": f"output of {job_id}",
    }


# Workers, C7


async def test_c7_a_workers_entry_follows_its_jobs(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[stage()])
    await server.client.submit(COURSE, name, students=2)
    poller = await server.poller(name)

    idle = {"hostname": f"{name}.example", "jobs_processed": 0, "busy": False, "alive": True}
    assert await server.worker(name) == idle
    job = await poller.take()
    assert await server.worker(name) == idle | {"jobs_processed": 1, "busy": True}
    await poller.finish(job)
    assert await server.worker(name) == idle | {"jobs_processed": 1}
    await poller.take()
    assert await server.worker(name) == idle | {"jobs_processed": 2, "busy": True}


@pytest.mark.parametrize(
    ("path", "scope"), [("some", "some"), ("all/of/them", "all/of/them"), ("%C3%BC%20x", "ü x"), ("all/", "all/")]
)
async def test_c7_no_other_scope_has_been_implemented(server: Server, path: str, scope: str) -> None:
    answer = await get(server, f"worker/{COURSE}/{path}")

    assert is_refused(answer, 404, f"scope {scope} has not been implemented yet")


# Queue length and position, C8 and C9


async def test_c8_counts_a_courses_waiting_jobs(server: Server, name: str) -> None:
    poller = await server.poller(name)
    lengths = [await server.length()]
    await server.client.register(COURSE, name, students=[stage()], pre_processing_pipeline=[stage()])
    await server.client.submit(COURSE, name, students=3)
    lengths.append(await server.length())
    await poller.grade()
    lengths.append(await server.length())
    await poller.take()
    lengths.append(await server.length())

    assert lengths == [0, 1, 3, 2]
    assert await server.length(OTHER_COURSE) == 0


async def test_c9_counts_from_zero_in_the_courses_own_queue(server: Server, name: str) -> None:
    for course in (OTHER_COURSE, COURSE):
        await server.client.register(course, name, students=[stage()])
        run_id = await server.client.submit(course, name, students=3)
    jobs = list(await server.jobs(run_id))

    positions = [
        data(await server.client.get(f"queue/{COURSE}/{job}/position", token=query_token_of(COURSE))) for job in jobs
    ]

    assert positions == [{"position": 0}, {"position": 1}, {"position": 2}]


async def test_c9_jobs_that_do_not_wait_have_no_position(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[stage()])
    await server.client.submit(COURSE, name, students=1)
    poller = await server.poller(name)
    job = await poller.take()
    path = f"queue/{COURSE}/{job['grading_job_id']}/position"
    gone = f"{job['grading_job_id']} has already passed through the queue"

    assert is_refused(await get(server, path), 400, gone)
    await poller.finish(job)
    assert is_refused(await get(server, path), 400, gone)
    unknown = await get(server, f"queue/{COURSE}/{NOBODY}/position")
    assert is_refused(unknown, 400, f"grading {NOT_FOUND_JOB}")

"""Limits per course: refused at registration or submission, by name and number, and nothing is stored."""

import asyncio
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from harness import Client, free_port, stage, token_of, until
from pushes import push, signature
from pymongo.asynchronous.database import AsyncDatabase

from broadway import connections
from broadway.ingest import serve as ingest
from broadway.ingest.commands.receive import CLEAN_AFTER
from broadway.mongo.store import Store
from broadway.service import Stop
from broadway.settings.programs import IngestSettings

Database = AsyncDatabase[dict[str, Any]]

SECRET = "a-secret-of-this-hook"
STAGE = stage("exit", "0")


@pytest.fixture(scope="module")
async def small(opened: connections.Connections, ingest_settings: IngestSettings) -> AsyncIterator[Client]:
    """Another ingest service with the same store and low limits."""
    less = {
        "bind_port": free_port(),
        "max_students": 3,
        "max_waiting_jobs": 5,
        "max_stages": 2,
        "max_assignments": 2,
        "max_hooks": 1,
        "max_deliveries": 3,
    }
    stop, settings = Stop(), ingest_settings.model_copy(update=less)
    async with asyncio.TaskGroup() as group, Client.connect(f"http://127.0.0.1:{less['bind_port']}") as client:
        serving = ingest.serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop, answer_within=20)
        group.create_task(serving)
        await until(client.is_ready)
        yield client
        stop.set()


async def v2(client: Client, method: str, course: str, path: str, body: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token_of(course)}"}
    return await client.http.request(method, f"/api/v2/courses/{course}/{path}", json=body, headers=headers)


async def v1(client: Client, course: str, path: str, body: Any) -> httpx2.Response:
    kind, _, assignment = path.partition("/")
    return await client.post(f"{kind}/{course}/{assignment}", body, token=token_of(course))


def text(answer: httpx2.Response) -> str:
    """Return the error text of v1 or v2."""
    body = answer.json()
    if "detail" in body:
        return str(body["detail"])
    data = body["data"]
    return str(data if isinstance(data, str) else data["message"])


async def put_hook(client: Client, course: str, name: str) -> httpx2.Response:
    return await v2(client, "PUT", course, f"hooks/{name}", {"assignment": "a", "secrets": [SECRET]})


async def test_a_run_has_at_most_the_allowed_number_of_students(small: Client, database: Database, course: str) -> None:
    await small.register(course, "a", students=[STAGE])
    envs, entries = [{}] * 4, [{"student": str(number)} for number in range(4)]

    answers = [
        await v1(small, course, "grading_run/a", {"students_env": envs}),
        await v2(small, "POST", course, "assignments/a/runs", {"students_env": envs}),
        await v2(small, "PUT", course, "assignments/a/roster", {"students": entries}),
    ]

    assert [(answer.status_code, text(answer)) for answer in answers] == [
        (400, "students_env: has 4 students, 3 are allowed for a run"),
        (409, "students_env: has 4 students, 3 are allowed for a run"),
        (409, "students: the roster has 4 students, 3 are allowed"),
    ]
    assert await database["grading_run"].count_documents({"assignment_id": f"{course}/a"}) == 0


async def test_a_course_has_at_most_the_allowed_number_of_waiting_jobs(
    small: Client, store: Store, course: str
) -> None:
    await small.register(course, "a", students=[STAGE])
    run = await small.submit(course, "a", students=3)
    refusals = [
        await v1(small, course, "grading_run/a", {"students_env": [{}] * 3}),
        await v2(small, "POST", course, "assignments/a/runs", {"students_env": [{}] * 3}),
    ]
    for answer in refusals:
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
        assert text(answer).startswith(f"3 jobs of {course} wait already and this run has 3; 5 may wait")
    await small.submit(course, "a", students=2)

    await put_hook(small, course, "git")
    entries = [{"student": "al", "repository": "cs/al"}]
    await v2(small, "PUT", course, "assignments/a/roster", {"students": entries})
    limited = await deliver(small, course)
    assert (limited.status_code, "5 jobs of" in text(limited)) == (429, True)
    assert 50 < int(limited.headers["retry-after"]) <= 61

    assert (await v2(small, "POST", course, f"runs/{run}/cancel", {})).status_code == 200

    async def is_accepted() -> bool:
        return (await v1(small, course, "grading_run/a", {"students_env": [{}]})).status_code == 200

    await until(is_accepted)
    assert await store.jobs.count_backlog(course) == 3


async def deliver(client: Client, course: str, body: dict[str, Any] | None = None) -> httpx2.Response:
    raw = httpx2.Request("POST", "http://x", json=body or push("al")).content
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": token_hex(8)}
    signed = headers | {"X-Hub-Signature-256": signature(raw, SECRET)}
    return await client.http.post(f"/api/v2/courses/{course}/hooks/git", content=raw, headers=signed)


@pytest.mark.parametrize("key", ["student_pipeline", "pre_processing_pipeline", "post_processing_pipeline"])
async def test_a_pipeline_has_at_most_the_allowed_number_of_stages(small: Client, course: str, key: str) -> None:
    body = {"student_pipeline": [STAGE], key: [STAGE] * 3}

    answers = [await v1(small, course, "grading_config/a", body), await v2(small, "PUT", course, "assignments/a", body)]

    assert [(each.status_code, text(each)) for each in answers] == [(400, f"{key}: has 3 stages, 2 are allowed")] * 2


async def test_a_course_has_at_most_the_allowed_number_of_assignments_and_hooks(small: Client, course: str) -> None:
    body = {"student_pipeline": [STAGE]}
    for name in ("a", "b", "a"):
        assert (await v2(small, "PUT", course, f"assignments/{name}", body)).status_code == 200
    answers = [await v1(small, course, "grading_config/c", body), await v2(small, "PUT", course, "assignments/c", body)]
    told = f"assignment: {course} has 2 assignments, 2 are allowed"
    assert [(each.status_code, text(each)) for each in answers] == [(400, told), (409, told)]

    assert [(await put_hook(small, course, name)).status_code for name in ("git", "git", "b")] == [200, 200, 409]
    assert text(await put_hook(small, course, "b")) == f"hook: {course} has 1 hooks, 1 are allowed"


async def test_a_courses_own_limits_replace_those_of_all_courses(
    small: Client, database: Database, course: str
) -> None:
    own = {"students": 4, "waiting_jobs": 6, "stages": 3, "assignments": 3, "hooks": 2}
    await database["course"].update_one({"_id": course}, {"$set": {"limits": own}})
    for name in ("a", "b", "c"):
        await small.register(course, name, students=[STAGE] * 3)
    run = await small.submit(course, "a", students=4)

    assert (await v1(small, course, "grading_run/a", {"students_env": [{}] * 5})).status_code == 400
    assert (await v1(small, course, "grading_config/d", {"student_pipeline": [STAGE]})).status_code == 400
    assert [(await put_hook(small, course, name)).status_code for name in ("a", "b", "c")] == [200, 200, 409]
    assert (await v2(small, "POST", course, f"runs/{run}/cancel", {})).status_code == 200
    assert (await v2(small, "POST", course, f"runs/{run}/rerun", {})).status_code == 200, (
        "its own limits hold here, too"
    )


async def test_only_the_latest_deliveries_of_a_hook_are_kept(small: Client, store: Store, course: str) -> None:
    await small.register(course, "a", students=[STAGE])
    await put_hook(small, course, "git")
    await v2(small, "PUT", course, "assignments/a/roster", {"students": [{"student": "al", "repository": "cs/al"}]})
    first = push("al")
    accepted = (await deliver(small, course, first)).json()
    for _ in range(4):
        await deliver(small, course, {"zen": 1, **push("nobody")})

    assert await store.deliveries.keep_latest(course, "git", 3) == 2
    listed = (await v2(small, "GET", course, "hooks/git/deliveries", None)).json()["items"]
    assert [each["state"] for each in listed] == ["unmatched"] * 3
    again = (await deliver(small, course, first)).json()
    assert (again["state"], again["run"]) == ("duplicate", accepted["run"]), "a removed delivery is still one run"


async def test_the_oldest_deliveries_are_removed_as_new_ones_arrive(small: Client, course: str) -> None:
    await put_hook(small, course, "git")
    for _ in range(CLEAN_AFTER + 1):
        await deliver(small, course)

    async def kept() -> bool:
        listed = (await v2(small, "GET", course, "hooks/git/deliveries", None)).json()["items"]
        return len(listed) <= 4

    await until(kept)


@pytest.mark.parametrize("length", [101, 5000])
async def test_the_names_of_new_assignments_are_short(small: Client, course: str, length: int) -> None:
    name, body = "a" * length, {"student_pipeline": [STAGE]}

    answers = [
        await v1(small, course, f"grading_config/{name}", body),
        await v2(small, "PUT", course, f"assignments/{name}", body),
        await v2(small, "PUT", course, f"assignments/{name}/roster", {"students": []}),
    ]

    told = f"assignment: its name has {length} characters, 100 are allowed"
    assert [(answer.status_code, text(answer)) for answer in answers] == [(400, told)] * 3


async def test_variables_of_three_layers_are_counted_together(client: Client, course: str) -> None:
    layers = [{f"{layer}{number}": "x" * 100_000 for number in range(4)} for layer in "EAS"]
    await client.register(course, "a", students=[STAGE | {"env": layers[0]}], env=layers[1])

    answer = await v1(client, course, "grading_run/a", {"students_env": [{"A0": "small"}, layers[2]]})

    assert answer.status_code == 400
    assert text(answer).startswith("students_env.1, with those of student_pipeline.0 and of the assignment: the variab")
    assert "1048576 are allowed; the largest, " in text(answer)


@pytest.mark.parametrize(
    ("entrypoint", "told"),
    [
        (["sh", "x" * (128 * 1024)], "entrypoint: its part 2 has 131073 bytes, 131072 are allowed"),
        (["x" * 100_000] * 6, "entrypoint: has 600006 bytes, 524288 are allowed"),
        (["true"] * 1001, "entrypoint: "),
        (["a\0b"], "entrypoint: its part 1 contains NUL"),
    ],
    ids=["long", "large", "many", "nul"],
)
async def test_an_entrypoint_fits_the_arguments_of_a_program(
    client: Client, course: str, entrypoint: list[str], told: str
) -> None:
    answer = await v1(client, course, "grading_config/a", {"student_pipeline": [STAGE | {"entrypoint": entrypoint}]})

    assert (answer.status_code, text(answer).startswith(f"student_pipeline.0.{told}")) == (400, True), text(answer)


@pytest.mark.parametrize("name", ["GRADING_RUN_ID", "GRADING_JOB_ID", "BROADWAY_STUDENT"])
async def test_only_broadway_sets_its_own_variables_in_v2(client: Client, course: str, name: str) -> None:
    env = {name: "x"}
    with_env = {"student_pipeline": [STAGE | {"env": env}]}
    assert (await v1(client, course, "grading_config/a", with_env)).status_code == 200, "as with the original"
    assert (await v1(client, course, "grading_run/a", {"students_env": [env]})).status_code == 200
    told = f"{name}: only Broadway sets this variable"

    for path, body, where in (
        ("assignments/a", with_env, "student_pipeline.0.env"),
        ("assignments/a", {"student_pipeline": [STAGE], "env": env}, "env"),
        ("assignments/a/roster", {"students": [{"student": "al", "env": env}]}, "students.0.env"),
    ):
        answer = await v2(client, "PUT", course, path, body)
        assert (answer.status_code, text(answer)) == (400, f"{where}: {told}")
    answer = await v2(client, "POST", course, "assignments/a/runs", {"students_env": [env]})
    assert (answer.status_code, text(answer)) == (400, f"students_env.0: {told}")


@pytest.mark.parametrize(
    ("name", "hostname"), [("g" * 101, "h"), ("g" * 5000, "h"), ("g", "h" * 256), ("g", "h" * 9_000_000)]
)
async def test_graders_names_are_short(client: Client, database: Database, name: str, hostname: str) -> None:
    headers = {"Authorization": "Bearer cluster-token"}
    for path in (f"/api/v1/worker/{name}", f"/api/v2/graders/{name}"):
        answer = await client.http.post(path, json={"hostname": hostname}, headers=headers)
        assert answer.status_code == 400, answer.text
        assert len(answer.text) < 500
    assert await database["worker_node"].find_one({"_id": name}) is None

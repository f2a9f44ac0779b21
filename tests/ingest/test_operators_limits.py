"""What the operator does not let courses ask for: refused over HTTP with the stage and the key, and nothing stored."""

import asyncio
import json
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
from broadway.mongo.store import Store
from broadway.settings.programs import IngestSettings

Database = AsyncDatabase[dict[str, Any]]

SECRET = "a-secret-of-this-hook"
GOOD = {"image": "ours/grader:1", "networking": False}
COLLECTIONS = {"assignment_config": "_id", "grading_run": "assignment_id", "grading_job": "course"}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"privileged": True}, "privileged: privileged containers are not allowed for {course} on this server"),
    ({"volumes": ["/:/host"]}, "volumes: "),
    ({"network_mode": "host"}, "network_mode: "),
    ({"networking": "host"}, "networking: "),
    ({"networking": True}, 'networking: no stage has a network on this server; write "networking": false'),
    ({"devices": ["/dev/sda"]}, "devices: "),
    ({"image": "evil/miner:1"}, "image: evil/miner:1 is none of the images that this server allows: ours/*, debian:12"),
    ({"memory": "1025m"}, "memory: 1025m is more than a stage may have on this server, 1g"),
    ({"cpuset_cpus": "0-"}, "cpuset_cpus: "),
    ({"env": {"A=B": 1}}, "env: 'A=B' cannot name a variable"),
]
EACH = pytest.mark.parametrize(("asked", "told"), REFUSED, ids=[str(asked) for asked, _ in REFUSED])


@pytest.fixture(scope="module")
async def strict(opened: connections.Connections, ingest_settings: IngestSettings) -> AsyncIterator[Client]:
    """Another ingest service with the same store, whose operator allows less."""
    less = {
        "bind_port": free_port(),
        "allow_privileged": True,
        "privileged_courses": "trusted-*, other",
        "no_network": True,
        "allow_images": "ours/*, debian:12",
        "max_memory": "1g",
    }
    stop, settings = asyncio.Event(), ingest_settings.model_copy(update=less)
    async with asyncio.TaskGroup() as group, Client.connect(f"http://127.0.0.1:{less['bind_port']}") as client:
        group.create_task(ingest.serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop))
        await until(client.is_ready)
        yield client
        stop.set()


async def put(client: Client, course: str, path: str, body: Any) -> httpx2.Response:
    url, headers = f"/api/v2/courses/{course}/{path}", {"Authorization": f"Bearer {token_of(course)}"}
    return await client.http.put(url, json=body, headers=headers)


def told_by(answer: httpx2.Response) -> str:
    """What v1 says against a request: in one place if it is the body, in another if it is more."""
    data = answer.json()["data"]
    return str(data if isinstance(data, str) else data["message"])


async def stored(database: Database, course: str) -> dict[str, list[Any]]:
    """Everything that the database has of a course's assignments, runs and jobs."""
    of_course = {"$regex": f"^{course}(/|$)"}
    return {name: await database[name].find({key: of_course}).to_list() for name, key in COLLECTIONS.items()}


@EACH
async def test_registering_it_is_refused(
    strict: Client, database: Database, course: str, asked: dict[str, Any], told: str
) -> None:
    body = {"student_pipeline": [GOOD, {**GOOD, **asked}]}

    over_v1 = await strict.post(f"grading_config/{course}/mp1", body, token=token_of(course))
    over_v2 = await put(strict, course, "assignments/mp1", body)

    said = f"student_pipeline.1.{told}".format(course=course)
    assert (over_v1.status_code, over_v2.status_code) == (400, 400)
    assert told_by(over_v1).startswith(said)
    assert over_v2.json()["detail"].startswith(said)
    assert not any((await stored(database, course)).values())


async def test_a_network_that_the_stage_does_not_name_is_one_as_well(strict: Client, course: str) -> None:
    body = {"student_pipeline": [{"image": "debian:12"}]}
    answer = await strict.post(f"grading_config/{course}/mp1", body, token=token_of(course))
    assert told_by(answer).startswith("student_pipeline.0.networking: ")


async def test_an_untrusted_stage_needs_not_say_that_it_has_no_network(strict: Client, course: str) -> None:
    await strict.register(course, "mp1", students=[{"image": "debian:12", "untrusted": True}])


async def test_a_course_that_may_have_privileges(strict: Client, database: Database) -> None:
    course = f"trusted-{token_hex(4)}"
    await database["course"].insert_one({"_id": course, "tokens": [token_of(course)], "query_tokens": []})
    await strict.register(course, "mp1", students=[{**GOOD, "privileged": True}])


async def test_a_stage_that_names_no_memory_gets_what_is_allowed(strict: Client, store: Store, course: str) -> None:
    stages = [GOOD, {**GOOD, "memory": "64m"}]
    await strict.register(course, "mp1", students=stages, pre_processing_pipeline=[GOOD])

    posted = (await strict.get(f"grading_config/{course}/mp1", token=token_of(course))).json()["data"]
    run_id = await strict.submit(course, "mp1", students=1, pre_processing_env={})

    assert posted["student_pipeline"] == stages
    run = await store.runs.get(run_id)
    assert run
    assert run.config
    assert [each["memory"] for each in run.config["student_pipeline"]] == ["1g", "64m"]
    ((job, given),) = (await store.jobs.stages_of_run(run_id)).items()
    assert [each["memory"] for each in given] == ["1g"], f"{job} is the pre-processing one"


async def test_it_keeps_its_own_default_where_more_is_allowed(client: Client, store: Store, course: str) -> None:
    await client.register(course, "mp1", students=[stage()])
    run_id = await client.submit(course, "mp1", students=1)
    (stages,) = (await store.jobs.stages_of_run(run_id)).values()
    assert "memory" not in stages[0]


# Configs that were registered when more was allowed


async def keep(database: Database, course: str, asked: dict[str, Any]) -> None:
    """Store a config as it could be registered at its time."""
    stages = [GOOD, {**GOOD, **asked}]
    rest = dict.fromkeys(("env", "pre_processing_pipeline", "post_processing_pipeline"))
    await database["assignment_config"].insert_one({"_id": f"{course}/mp1", "student_pipeline": stages, **rest})


@EACH
async def test_submitting_it_is_refused(
    strict: Client, database: Database, course: str, asked: dict[str, Any], told: str
) -> None:
    await keep(database, course, asked)
    before = await stored(database, course)

    over_v1 = await strict.post(f"grading_run/{course}/mp1", {"students_env": [{}]}, token=token_of(course))
    url, headers = f"/api/v2/courses/{course}/assignments/mp1/runs", {"Authorization": f"Bearer {token_of(course)}"}
    over_v2 = await strict.http.post(url, json={"students_env": [{}]}, headers=headers)

    said = f"student_pipeline.1.{told}".format(course=course)
    assert (over_v1.status_code, over_v2.status_code) == (400, 400)
    assert told_by(over_v1).startswith(said)
    assert over_v2.json()["detail"].startswith(said)
    assert await stored(database, course) == before


async def test_a_delivery_for_it_is_noted_as_refused(strict: Client, database: Database, course: str) -> None:
    await keep(database, course, {"image": "evil/miner:1"})
    await put(strict, course, "hooks/git", {"assignment": "mp1", "secrets": [SECRET]})
    await put(strict, course, "assignments/mp1/roster", {"students": [{"student": "al", "repository": "cs/al"}]})
    before, raw = await stored(database, course), json.dumps(push("al")).encode()
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "d1", "X-Hub-Signature-256": signature(raw, SECRET)}

    answer = await strict.http.post(f"/api/v2/courses/{course}/hooks/git", content=raw, headers=headers)

    said = "student_pipeline.1.image: evil/miner:1 is none of the images"
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(said)
    kept = await strict.get(f"courses/{course}/hooks/git/deliveries", token=token_of(course), version="v2")
    ((state, reason, run),) = [(each["state"], each["reason"], each["run"]) for each in kept.json()["items"]]
    assert (state, run) == ("refused", None)
    assert reason.startswith(said)
    assert await stored(database, course) == before


async def test_running_it_again_is_refused(client: Client, strict: Client, database: Database, course: str) -> None:
    await client.register(course, "mp1", students=[{**GOOD, "memory": "2g"}])
    run_id = await client.submit(course, "mp1", students=1)
    token, path = token_of(course), f"/api/v2/courses/{course}/runs/{run_id}"
    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.http.post(f"{path}/cancel", json={}, headers=headers)).status_code == 200
    await until(lambda: _is_over(client, course, run_id))
    before = await stored(database, course)

    answer = await strict.http.post(f"{path}/rerun", json={}, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("student_pipeline.0.memory: 2g is more than")
    assert await stored(database, course) == before


async def _is_over(client: Client, course: str, run_id: str) -> bool:
    return (await client.status(course, run_id))["state"] == "grading run failed"


async def test_what_was_submitted_before_is_still_known_by_its_key(client: Client, strict: Client, course: str) -> None:
    await client.register(course, "mp1", students=[{**GOOD, "memory": "2g"}])
    headers = {"Authorization": f"Bearer {token_of(course)}", "Idempotency-Key": "k1"}

    answers = [
        await each.http.post(f"/api/v1/grading_run/{course}/mp1", json={"students_env": [{}]}, headers=headers)
        for each in (client, strict)
    ]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"students_env": [{}, {"A=": 1}]}, "students_env.1: 'A=' cannot name a variable"),
        ({"students_env": [{str(number): 1 for number in range(1001)}]}, "students_env.0: has 1001 variables"),
        ({"students_env": [{}], "pre_processing_env": {"=": 1}}, "pre_processing_env: '=' cannot name a variable"),
        ({"students_env": [{"A": "x" * 1024 * 1024}]}, "students_env.0: has 1048577 characters, 1048576 are allowed"),
    ],
    ids=["name", "many", "equals", "large"],
)
async def test_variables_that_no_program_could_have_are_no_submission(
    client: Client, database: Database, course: str, body: dict[str, Any], told: str
) -> None:
    await client.register(course, "mp1", students=[stage()], pre_processing_pipeline=[stage()])
    before = await stored(database, course)

    answer = await client.post(f"grading_run/{course}/mp1", body, token=token_of(course))

    assert answer.status_code == 400
    assert told_by(answer).startswith(told)
    assert await stored(database, course) == before


async def test_nor_are_they_a_students(client: Client, course: str) -> None:
    students = [{"student": "al"}, {"student": "bo", "env": {"A=": "1"}}]
    answer = await put(client, course, "assignments/mp1/roster", {"students": students})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("students.1.env: 'A=' cannot name a variable")

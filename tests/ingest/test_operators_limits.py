"""The operator's limits: a request beyond them is refused over HTTP with the stage and the key, and not stored."""

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
from broadway.service import Stop
from broadway.settings.programs import IngestSettings

Database = AsyncDatabase[dict[str, Any]]

SECRET = "a-secret-of-this-hook"
GOOD = {"image": "ours/grader:1", "networking": False}

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
    """Another ingest service with the same store and stricter limits."""
    less = {
        "bind_port": free_port(),
        "allow_privileged": True,
        "privileged_courses": "trusted-*, other",
        "no_network": True,
        "allow_images": "ours/*, debian:12",
        "max_memory": "1g",
    }
    stop, settings = Stop(), ingest_settings.model_copy(update=less)
    async with asyncio.TaskGroup() as group, Client.connect(f"http://127.0.0.1:{less['bind_port']}") as client:
        group.create_task(ingest.serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop))
        await until(client.is_ready)
        yield client
        stop.set()


async def put(client: Client, course: str, path: str, body: Any) -> httpx2.Response:
    url, headers = f"/api/v2/courses/{course}/{path}", {"Authorization": f"Bearer {token_of(course)}"}
    return await client.http.put(url, json=body, headers=headers)


def error_of(answer: httpx2.Response) -> str:
    """Return the error text of v1: the data itself for an invalid body, otherwise its message."""
    data = answer.json()["data"]
    return str(data if isinstance(data, str) else data["message"])


async def stored(database: Database, course: str) -> dict[str, list[Any]]:
    """Return the stored assignments, runs and jobs of a course, all below the name mp1."""
    assignment = f"{course}/mp1"
    queries = {"assignment_config": {"_id": assignment}, "grading_run": {"assignment_id": assignment}}
    queries["grading_job"] = {"course": course}
    return {name: await database[name].find(query).to_list() for name, query in queries.items()}


@EACH
async def test_registering_a_config_beyond_the_limits_is_refused(
    strict: Client, database: Database, course: str, asked: dict[str, Any], told: str
) -> None:
    body = {"student_pipeline": [GOOD, {**GOOD, **asked}]}

    over_v1 = await strict.post(f"grading_config/{course}/mp1", body, token=token_of(course))
    over_v2 = await put(strict, course, "assignments/mp1", body)

    expected = f"student_pipeline.1.{told}".format(course=course)
    assert (over_v1.status_code, over_v2.status_code) == (400, 400)
    assert error_of(over_v1).startswith(expected)
    assert over_v2.json()["detail"].startswith(expected)
    assert not any((await stored(database, course)).values())


async def test_the_default_network_is_refused_as_well(strict: Client, course: str) -> None:
    body = {"student_pipeline": [{"image": "debian:12"}]}
    answer = await strict.post(f"grading_config/{course}/mp1", body, token=token_of(course))
    assert error_of(answer).startswith("student_pipeline.0.networking: ")


async def test_an_untrusted_stage_may_omit_networking(strict: Client, course: str) -> None:
    await strict.register(course, "mp1", students=[{"image": "debian:12", "untrusted": True}])


async def test_a_privileged_course_may_register_privileged_stages(strict: Client, database: Database) -> None:
    course = f"trusted-{token_hex(4)}"
    await database["course"].insert_one({"_id": course, "tokens": [token_of(course)], "query_tokens": []})
    await strict.register(course, "mp1", students=[{**GOOD, "privileged": True}])


async def test_a_stage_without_memory_gets_the_limit(strict: Client, store: Store, course: str) -> None:
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


async def test_a_stage_without_memory_keeps_its_default_below_the_limit(
    client: Client, store: Store, course: str
) -> None:
    await client.register(course, "mp1", students=[stage()])
    run_id = await client.submit(course, "mp1", students=1)
    (stages,) = (await store.jobs.stages_of_run(run_id)).values()
    assert "memory" not in stages[0]


# Configs that were registered under earlier limits


async def keep(database: Database, course: str, asked: dict[str, Any]) -> None:
    """Store a config that earlier limits allowed."""
    stages = [GOOD, {**GOOD, **asked}]
    rest = dict.fromkeys(("env", "pre_processing_pipeline", "post_processing_pipeline"))
    await database["assignment_config"].insert_one({"_id": f"{course}/mp1", "student_pipeline": stages, **rest})


@EACH
async def test_submitting_to_a_config_beyond_the_limits_is_refused(
    strict: Client, database: Database, course: str, asked: dict[str, Any], told: str
) -> None:
    await keep(database, course, asked)
    before = await stored(database, course)

    over_v1 = await strict.post(f"grading_run/{course}/mp1", {"students_env": [{}]}, token=token_of(course))
    url, headers = f"/api/v2/courses/{course}/assignments/mp1/runs", {"Authorization": f"Bearer {token_of(course)}"}
    over_v2 = await strict.http.post(url, json={"students_env": [{}]}, headers=headers)

    expected = f"student_pipeline.1.{told}".format(course=course)
    assert (over_v1.status_code, over_v2.status_code) == (400, 400)
    assert error_of(over_v1).startswith(expected)
    assert over_v2.json()["detail"].startswith(expected)
    assert await stored(database, course) == before


async def test_a_delivery_to_a_config_beyond_the_limits_is_stored_as_refused(
    strict: Client, database: Database, course: str
) -> None:
    await keep(database, course, {"image": "evil/miner:1"})
    await put(strict, course, "hooks/git", {"assignment": "mp1", "secrets": [SECRET]})
    await put(strict, course, "assignments/mp1/roster", {"students": [{"student": "al", "repository": "cs/al"}]})
    before, raw = await stored(database, course), json.dumps(push("al")).encode()
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "d1", "X-Hub-Signature-256": signature(raw, SECRET)}

    answer = await strict.http.post(f"/api/v2/courses/{course}/hooks/git", content=raw, headers=headers)

    expected = "student_pipeline.1.image: evil/miner:1 is none of the images"
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(expected)
    deliveries = await strict.get(f"courses/{course}/hooks/git/deliveries", token=token_of(course), version="v2")
    ((state, reason, run),) = [(each["state"], each["reason"], each["run"]) for each in deliveries.json()["items"]]
    assert (state, run) == ("refused", None)
    assert reason.startswith(expected)
    assert await stored(database, course) == before


async def test_a_rerun_beyond_the_limits_is_refused(
    client: Client, strict: Client, database: Database, course: str
) -> None:
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


async def test_an_earlier_submission_is_still_found_by_its_idempotency_key(
    client: Client, strict: Client, course: str
) -> None:
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
        ({"students_env": [{"A": "x" * 1024 * 1024}]}, "students_env.0: the variable A has 1048579 bytes as"),
    ],
    ids=["name", "many", "equals", "large"],
)
async def test_a_submission_with_impossible_variables_is_refused(
    client: Client, database: Database, course: str, body: dict[str, Any], told: str
) -> None:
    await client.register(course, "mp1", students=[stage()], pre_processing_pipeline=[stage()])
    before = await stored(database, course)

    answer = await client.post(f"grading_run/{course}/mp1", body, token=token_of(course))

    assert answer.status_code == 400
    assert error_of(answer).startswith(told)
    assert await stored(database, course) == before


async def test_a_roster_with_impossible_variables_is_refused(client: Client, course: str) -> None:
    students = [{"student": "al"}, {"student": "bo", "env": {"A=": "1"}}]
    answer = await put(client, course, "assignments/mp1/roster", {"students": students})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("students.1.env: 'A=' cannot name a variable")

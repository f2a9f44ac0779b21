"""The resources of v2 (courses, assignments, runs, jobs, attempts), their pages and their OpenAPI document."""

import asyncio
import re
from typing import Any

import httpx2
import pytest
from harness import Client, stage, token_of
from openapi_spec_validator import validate

from broadway.ingest.v2.routes import V2

NOBODY = "0123456789abcdef01234567"
PROBLEM = "application/problem+json"


def headers(course: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(course)}", **more}


async def ask(client: Client, course: str, path: str = "", method: str = "GET", **more: Any) -> httpx2.Response:
    more.setdefault("headers", headers(course))
    return await client.http.request(method, f"/api/v2/courses/{course}{path}", **more)


async def put_roster(client: Client, course: str, *students: str) -> None:
    entries = [{"student": name, "env": {"NETID": name}} for name in students]
    answer = await ask(client, course, "/assignments/mp1/roster", "PUT", json={"students": entries})
    assert answer.status_code == 200, answer.text


async def test_a_token_lists_its_courses(client: Client, course: str, other_course: str) -> None:
    answer = await client.http.get("/api/v2/courses", headers=headers(course))

    assert [each["id"] for each in answer.json()["items"]] == [course]
    assert (await ask(client, course)).json() == {"id": course, "weight": 1.0, "concurrency": None, "pool": "default"}
    assert (await client.http.get("/api/v2/courses", headers=headers("csnobody"))).status_code == 401
    assert (await ask(client, other_course, headers=headers(course))).status_code == 401


async def test_an_assignment_is_registered_read_and_listed(client: Client, course: str) -> None:
    path = "/assignments/mp1"
    assert (await ask(client, course, path)).status_code == 404
    config = {"student_pipeline": [stage("exit", "0")]}

    put = await ask(client, course, path, "PUT", json=config)

    assert put.status_code == 200
    assert put.json()["config"]["student_pipeline"] == config["student_pipeline"]
    assert (put.json()["students"], put.json()["hooks"]) == (None, [])
    await put_roster(client, course, "a", "b")
    await ask(
        client,
        course,
        "/hooks/git",
        "PUT",
        json={"assignment": "mp1", "format": "json", "secrets": ["0123456789abcdef"]},
    )
    assignment = (await ask(client, course, path)).json()
    assert (assignment["students"], assignment["hooks"]) == (2, ["git"])
    for name in ("a1", "mp2"):
        await client.register(course, name, students=[stage()])
    first = (await ask(client, course, "/assignments?limit=2")).json()
    assert ([each["id"] for each in first["items"]], first["next"]) == (["a1", "mp1"], "mp1")
    second = (await ask(client, course, "/assignments?limit=2&after=mp1")).json()
    assert ([each["id"] for each in second["items"]], second["next"]) == (["mp2"], None)
    refused = await ask(client, course, path, "PUT", json={"student_pipeline": [{"image": 1}]})
    assert (refused.status_code, "student_pipeline.0.image" in refused.json()["detail"]) == (400, True)


async def test_a_run_covers_the_roster_or_a_part_of_it(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage("exit", "0")])
    path = "/assignments/mp1/runs"
    without = await ask(client, course, path, "POST", json={"students": "all"})
    assert (without.status_code, "has no roster" in without.json()["detail"]) == (422, True)
    await put_roster(client, course, "a", "b", "c")

    for wanted, students in (
        ({"students": "all"}, 3),
        ({"students": ["c", "a"]}, 2),
        ({"students_env": [{"X": 1}]}, 1),
    ):
        answer = await ask(client, course, path, "POST", json=wanted)
        assert (answer.status_code, answer.json()["students"]) == (201, students)
        where = answer.headers["location"]
        assert (await client.http.get(where, headers=headers(course))).json()["id"] == answer.json()["id"]
    run = await client.describe(course, answer.json()["id"])
    assert run["jobs"][0]["env"]["X"] == 1

    for wrong, status, says in (
        ({"students": ["d"]}, 422, "students: d is not in the roster"),
        ({}, 400, "either students or students_env"),
        ({"students": "all", "students_env": []}, 400, "either students or students_env"),
        ({"students": "some"}, 400, "students"),
        ({"students": "all", "post_processing_env": {"X": 1}}, 400, "post-processing"),
    ):
        answer = await ask(client, course, path, "POST", json=wrong)
        assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
        assert says in answer.json()["detail"]
    assert len((await ask(client, course, "/runs")).json()["items"]) == 3, "and nothing of those is stored"


async def test_concurrent_submissions_with_one_key_are_one_run(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage("exit", "0")])
    path, body = "/assignments/mp1/runs", {"students_env": [{"X": 1}]}
    keyed = headers(course, **{"Idempotency-Key": "k"})
    answers = await asyncio.gather(*(ask(client, course, path, "POST", json=body, headers=keyed) for _ in range(3)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = await ask(client, course, path, "POST", json={"students_env": [{"X": 2}]}, headers=keyed)
    assert (other.status_code, other.headers["content-type"]) == (422, PROBLEM)


@pytest.mark.parametrize(("students", "later"), [("all", ("a", "b", "c")), (["a", "b"], ("b",))])
async def test_a_repeated_submission_is_the_same_run_after_a_change_of_the_roster(
    client: Client, course: str, students: Any, later: tuple[str, ...]
) -> None:
    await client.register(course, "mp1", students=[stage("exit", "0")])
    await put_roster(client, course, "a", "b")
    path, body = "/assignments/mp1/runs", {"students": students}
    keyed = headers(course, **{"Idempotency-Key": "k"})
    first = await ask(client, course, path, "POST", json=body, headers=keyed)
    await put_roster(client, course, *later)

    again = await ask(client, course, path, "POST", json=body, headers=keyed)

    assert (again.status_code, again.json()["id"], again.json()["students"]) == (201, first.json()["id"], 2)
    assert again.headers["location"] == first.headers["location"]
    other = await ask(client, course, path, "POST", json={"students": ["b"]}, headers=keyed)
    assert other.status_code == 422
    assert len((await ask(client, course, "/runs")).json()["items"]) == 1


async def test_runs_are_listed_page_by_page_latest_first(client: Client, course: str, other_course: str) -> None:
    for name in ("mp1", "mp2"):
        await client.register(course, name, students=[stage("exit", "0")])
    await client.register(other_course, "mp1", students=[stage("exit", "0")])
    await client.submit(other_course, "mp1", students=1)
    assert (await ask(client, course, "/runs")).json() == {"items": [], "next": None}
    made = [await client.submit(course, f"mp{1 + number % 2}", students=1) for number in range(5)]

    pages, after = [], ""
    for _ in range(3):
        page = (await ask(client, course, f"/runs?limit=2{after}")).json()
        pages.append([run["id"] for run in page["items"]])
        after = f"&after={page['next']}"

    assert (pages, page["next"]) == ([made[:2:-1], made[2:0:-1], made[:1]], None)
    of_one = (await ask(client, course, "/runs?assignment=mp2")).json()["items"]
    assert [run["id"] for run in of_one] == [made[3], made[1]]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("after=x", "after: expected the next of the page before"),
        (f"after=99999999999999999-{NOBODY}", "after: expected the next"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=1&limit=2", "limit: expected once"),
        ("assignment=a%20b", "assignment"),
        ("colour=red", "colour"),
    ],
)
async def test_an_invalid_query_is_refused(client: Client, course: str, query: str, says: str) -> None:
    answer = await ask(client, course, f"/runs?{query}")

    assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM)
    assert answer.json()["detail"].startswith(says)


async def test_jobs_of_a_run_are_listed_page_by_page(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage("exit", "0")])
    run_id = await client.submit(course, "mp1", students=5)
    jobs = [job["id"] for job in (await client.describe(course, run_id))["jobs"]]
    await ask(client, course, f"/jobs/{jobs[1]}/cancel", "POST")

    first = (await ask(client, course, f"/runs/{run_id}/jobs?limit=3")).json()
    assert ([job["id"] for job in first["items"]], first["next"]) == (jobs[:3], jobs[2])
    second = (await ask(client, course, f"/runs/{run_id}/jobs?limit=3&after={jobs[2]}")).json()
    assert ([job["id"] for job in second["items"]], second["next"]) == (jobs[3:], None)
    for query in ("outcome=cancelled", "state=finished"):
        found = (await ask(client, course, f"/runs/{run_id}/jobs?{query}")).json()["items"]
        assert [job["id"] for job in found] == [jobs[1]]
    assert (await ask(client, course, f"/runs/{run_id}/jobs?after={NOBODY}")).status_code == 400
    assert (await ask(client, course, f"/runs/{run_id}/jobs?outcome=fine")).status_code == 400
    assert (await ask(client, course, f"/runs/{NOBODY}/jobs")).status_code == 404
    assert (await ask(client, course, f"/jobs/{jobs[0]}/attempts")).json() == {"items": [], "next": None}


async def test_v2_answers_with_problem_details_and_v1_in_its_own_format(client: Client, course: str) -> None:
    nowhere = await client.http.get("/api/v2/nowhere")
    wrong = await ask(client, course, "/runs", "DELETE")
    for answer, status in ((nowhere, 404), (wrong, 405)):
        assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
        assert answer.json()["status"] == status
        assert answer.json()["detail"]
    assert wrong.headers["allow"] == "GET, OPTIONS"
    assert (await client.http.get("/api/v1/nowhere")).json()["status"] == "error"


async def test_the_openapi_document_is_valid_and_complete(client: Client) -> None:
    answer = await client.http.get("/api/v2/openapi.json")
    document = answer.json()

    validate(document)
    assert document["openapi"].startswith("3.1")
    operations = [(path, method) for path, item in document["paths"].items() for method in item]
    assert len(operations) == sum(len(handlers) for handlers in V2.values()), "every operation of v2 is described"
    ids = [document["paths"][path][method]["operationId"] for path, method in operations]
    assert len(ids) == len(set(ids))
    assert all(document["paths"][path][method]["summary"] for path, method in operations)
    assert "mappingproxy" not in answer.text


async def test_the_openapi_document_has_optional_bodies_and_headers_of_answers(client: Client) -> None:
    paths = (await client.http.get("/api/v2/openapi.json")).json()["paths"]
    operations = [(f"{method} {path}", operation) for path, item in paths.items() for method, operation in item.items()]
    bodies = {
        name: operation["requestBody"]["required"] for name, operation in operations if "requestBody" in operation
    }

    optional = {name.rpartition("/")[2] for name, is_required in bodies.items() if not is_required}
    assert optional == {
        "refresh",
        "discard",
        "cancel",
        "rerun",
        "redeliver",
        "ping",
        "replay",
        "rotate",
        "pause",
        "resume",
        "drain",
        "revoke",
        "join-tokens",
        "student-links",
    }
    assert bodies["post /api/v2/courses/{course}/hooks/{hook}"]
    for name, operation in operations:
        for status, header in (("201", "Location"), ("429", "Retry-After"), ("503", "Retry-After")):
            if status in operation["responses"]:
                assert header in operation["responses"][status]["headers"], name


async def test_the_documentation_page_loads_nothing_from_other_servers(client: Client) -> None:
    answer = await client.http.get("/docs")

    assert answer.status_code == 200
    assert "/api/v2/openapi.json" in answer.text
    assert not re.findall(r"""<(?:script|link|img)[^>]*(?:src|href)=["']?https?://""", answer.text)
    assert "default-src 'self'" in answer.headers["content-security-policy"]

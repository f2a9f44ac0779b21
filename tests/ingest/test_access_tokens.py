"""Tokens that the API hands out: named ones of courses, students' own, and the names of tokens in a course config."""

from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from harness import Client, broadway, stage, token_of
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.access import SecretPrefix, new_secret
from broadway.domain.course import Course, CourseConfigError, read_courses
from broadway.ingest.commands.tokens import MAX_OF_STUDENT
from broadway.messages.http import IDENTITY_HEADER

OPERATOR = "operator-token"


async def ask(client: Client, method: str, path: str, token: str, body: Any = None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return await client.http.request(method, f"/api/v2{path}", json=body, headers=headers)


async def put_roster(client: Client, course: str) -> None:
    roster = {"students": [{"student": "alice@example.org"}]}
    path = f"/courses/{course}/assignments/mp1/roster"
    assert (await ask(client, "PUT", path, token_of(course), roster)).status_code == 200


async def test_a_named_token_works_until_it_is_revoked(
    client: Client, course: str, other_course: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    path = f"/courses/{course}/tokens"
    made = (await ask(client, "POST", path, token_of(course), {"name": "Ada", "expires_in_days": 3})).json()
    secret = made["token"]

    assert secret.startswith("bwc_")
    assert (made["name"], made["kind"], made["created_by"], made["state"]) == ("Ada", "staff", "token 1", "valid")
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=2) < lasts < timedelta(days=4)
    assert (await ask(client, "GET", "/whoami", secret)).json()["name"] == "Ada"
    assert (await client.get(f"queue/{course}/length", token=secret)).status_code == 200, "v1 takes it, too"
    await client.register(course, "mp1", students=[stage()])
    assert (await ask(client, "GET", f"/courses/{course}/assignments/mp1", secret)).status_code == 200
    assert (await ask(client, "GET", f"/courses/{other_course}", secret)).status_code == 401
    assert [each["id"] for each in (await ask(client, "GET", "/courses", secret)).json()["items"]] == [course]
    (stored,) = await database["access_token"].find({"course": course}).to_list()
    assert secret not in str(stored)
    (listed,) = (await ask(client, "GET", path, secret)).json()["items"]
    assert "token" not in listed

    assert (await ask(client, "DELETE", f"{path}/{made['id']}", secret)).status_code == 204

    assert (await ask(client, "GET", f"/courses/{course}", secret)).status_code == 401
    assert (await ask(client, "DELETE", f"{path}/{made['id']}", token_of(course))).status_code == 404
    (listed,) = (await ask(client, "GET", path, token_of(course))).json()["items"]
    assert listed["state"] == "revoked"


async def test_names_of_valid_tokens_are_unique_in_a_course(client: Client, course: str, other_course: str) -> None:
    for where, token, status in (
        (course, token_of(course), 201),
        (course, token_of(course), 409),
        (other_course, OPERATOR, 201),
    ):
        body = {"name": "Ada", "kind": "query"}
        assert (await ask(client, "POST", f"/courses/{where}/tokens", token, body)).status_code == status
    absent = await ask(client, "POST", "/courses/nowhere/tokens", OPERATOR, {"name": "Ada"})
    assert (absent.status_code, absent.json()["detail"]) == (404, "there is no such course")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x", "kind": "operator"}, "kind"),
        ({"name": "x", "expires_in_days": 0}, "expires_in_days"),
        ({"name": "x", "expires_in_days": 10**9}, "expires_in_days"),
        ({"name": "x", "more": 1}, "more"),
    ],
)
async def test_an_invalid_request_is_refused_by_the_fields_name(
    client: Client, course: str, body: dict[str, Any], says: str
) -> None:
    answer = await ask(client, "POST", f"/courses/{course}/tokens", token_of(course), body)
    assert (answer.status_code, says in answer.json()["detail"]) == (400, True)


async def test_a_student_of_a_roster_has_tokens_that_only_identify_the_student(client: Client, course: str) -> None:
    path = f"/courses/{course}/student-tokens"
    body = {"student": "alice@example.org"}
    assert (await ask(client, "POST", path, token_of(course), body)).status_code == 422
    await put_roster(client, course)
    made = (await ask(client, "POST", path, token_of(course), body)).json()

    assert made["token"].startswith("bws_")
    who = (await ask(client, "GET", "/whoami", made["token"])).json()
    assert (who["kind"], who["student"], who["course"]) == ("student", "alice@example.org", course)
    for refused in (f"/courses/{course}", f"/courses/{course}/runs", "/courses", "/graders", path):
        assert (await ask(client, "GET", refused, made["token"])).status_code == 401
    found = (await ask(client, "GET", f"{path}?student=alice%40example.org", token_of(course))).json()
    assert [each["id"] for each in found["items"]] == [made["id"]]
    assert (await ask(client, "GET", f"{path}?student=bob", token_of(course))).json()["items"] == []
    as_course_token = await ask(client, "DELETE", f"/courses/{course}/tokens/{made['id']}", token_of(course))
    assert as_course_token.status_code == 404
    assert (await ask(client, "DELETE", f"{path}/{made['id']}", token_of(course))).status_code == 204
    assert (await ask(client, "GET", "/whoami", made["token"])).status_code == 401


async def test_a_student_has_a_bounded_number_of_tokens(client: Client, course: str) -> None:
    await put_roster(client, course)
    path, body = f"/courses/{course}/student-tokens", {"student": "alice@example.org"}
    answers = [await ask(client, "POST", path, token_of(course), body) for _ in range(MAX_OF_STUDENT + 1)]
    assert [answer.status_code for answer in answers] == [201] * MAX_OF_STUDENT + [409]
    first = (await ask(client, "GET", f"{path}?limit=15", token_of(course))).json()
    second = (await ask(client, "GET", f"{path}?limit=15&after={first['next']}", token_of(course))).json()
    ids = [each["id"] for each in first["items"] + second["items"]]
    assert (len(set(ids)), second["next"]) == (MAX_OF_STUDENT, None)


async def test_whoami_names_every_kind_of_token(client: Client, course: str) -> None:
    grader, secret = f"g-{token_hex(4)}", new_secret(SecretPrefix.GRADER)
    headers = {"Authorization": "Bearer cluster-token", IDENTITY_HEADER: secret}
    joined = await client.http.post(f"/api/v2/graders/{grader}", json={"hostname": "h"}, headers=headers)
    assert joined.status_code == 200
    for token, kind, name in (
        (token_of(course), "staff", "token 1"),
        (token_of(course).replace("staff", "second"), "staff", "token 2"),
        (token_of(course).replace("staff", "query"), "query", "query token 1"),
        (OPERATOR, "operator", "operator"),
        ("cluster-token", "join", "cluster token"),
        (secret, "grader", grader),
    ):
        who = (await ask(client, "GET", "/whoami", token)).json()
        assert (who["kind"], who["name"]) == (kind, name)
        assert who["course"] == (course if kind in ("staff", "query") else None)
    assert (await ask(client, "GET", "/whoami", "garbage")).status_code == 401


async def test_the_cli_makes_lists_and_revokes_tokens_and_shows_actions(client: Client, course: str) -> None:
    await put_roster(client, course)
    own = {"BROADWAY_SERVER": str(client.http.base_url), "BROADWAY_COURSE_TOKEN": token_of(course)}
    access = ("--course", course)
    made = await broadway("course", "token", "add", "Grace Hopper", "--days", "9", *access, **own)
    assert (made.exit_code, made.last_line.startswith("bwc_")) == (0, True), made.stderr
    who = await broadway("whoami", "--token", made.last_line, **own)
    assert "Grace Hopper" in who.stdout
    listed = await broadway("course", "token", "list", *access, **own)
    assert "Grace Hopper" in listed.last_line
    revoked = await broadway("course", "token", "revoke", "Grace Hopper", *access, **own)
    assert (revoked.exit_code, revoked.stdout) == (0, "revoked\n"), revoked.stderr
    student = await broadway("student", "token", "add", "alice@example.org", *access, **own)
    assert student.last_line.startswith("bws_"), student.stderr
    listed = await broadway("student", "token", "list", "--student", "alice@example.org", *access, **own)
    identity = listed.last_line.partition("\t")[0]
    assert (await broadway("student", "token", "revoke", identity, *access, **own)).exit_code == 0
    shown = await broadway("audit", *access, **own)
    assert [line.split("\t")[4] for line in shown.stdout.splitlines()[1:]] == [
        "tokens_revoke_of_student",
        "tokens_add_for_student",
        "tokens_revoke",
        "tokens_add",
        "hooks_put_roster",
    ]
    every = await broadway("audit", "--limit", "1", BROADWAY_OPERATOR_TOKEN=OPERATOR, **own)
    assert len(every.stdout.splitlines()) == 2, every.stderr


def test_a_course_config_names_its_tokens(tmp_path: Any) -> None:
    path = tmp_path / "courses.json"
    path.write_text(
        '{"cs1": {"tokens": ["plain", {"name": "Ada", "token": "a"}], "query_tokens": [{"name": "Q", "token": "q"}]}}'
    )
    (course,) = read_courses(path)
    kept = Course.model_validate({**course.model_dump(), "id": "cs1"})
    names = {token: [each.name for each in kept.principals(token)] for token in ("plain", "a", "q", "x")}
    assert names == {"plain": ["token 1"], "a": ["Ada"], "q": ["Q"], "x": []}
    assert all(each.startswith("sha256$") for each in (*kept.tokens, *kept.query_tokens))
    for wrong in (
        '{"name": "Ada"}',
        '{"token": "secret"}',
        '{"name": "", "token": "secret"}',
        '{"name": 1, "token": "secret"}',
    ):
        path.write_text(f'{{"cs1": {{"tokens": [{wrong}]}}}}')
        with pytest.raises(CourseConfigError) as refusal:
            read_courses(path)
        assert "secret" not in str(refusal.value)

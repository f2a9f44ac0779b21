"""Every operation of v2 and v1 with every kind of credential: the answers are those of the declarations."""

import importlib.util
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from types import ModuleType
from typing import Any

import httpx2
import pytest
from harness import IS_WHOLE, METRICS_TOKEN, Client, stage, token_of
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.access import AccessToken, SecretPrefix, TokenKind, digest, new_secret, token_id
from broadway.ingest.http.rights import rights_of
from broadway.ingest.v2.routes import V2
from broadway.messages.http import IDENTITY_HEADER
from broadway.mongo.store import Store

ROOT = Path(__file__).parents[2]
OPERATOR, CLUSTER = "operator-token", "cluster-token"
WRONG = ("invalid token", "invalid token format", "course not found")
Credentials = dict[str, tuple[str | None, str]]
# Credentials that are looked up and refused or admitted as others are: operations take turns with them in the suite.
TURNS = (
    *("garbage", "a named one of another course", "expired", "revoked", "a revoked student's"),
    *("named staff", "named query"),
)
TURNS_OF_EACH = 2


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("access", ROOT / "scripts" / "access.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ACCESS = _script()
OPERATIONS = list(ACCESS.operations())


@pytest.fixture(scope="module")
def owner() -> str:
    """The id of a grader with a secret of its own."""
    return f"owner-{token_hex(4)}"


@pytest.fixture(scope="module")
async def names(database: AsyncDatabase[dict[str, Any]]) -> tuple[str, str]:
    """A course, and another one."""
    tags = token_hex(4), token_hex(4)
    await database["course"].insert_many(
        [{"_id": f"cs{tag}", "tokens": [f"staff-{tag}"], "query_tokens": [f"query-{tag}"]} for tag in tags]
    )
    return f"cs{tags[0]}", f"cs{tags[1]}"


@pytest.fixture(scope="module")
async def credentials(client: Client, store: Store, names: tuple[str, str], owner: str) -> Credentials:
    """Credentials by name: each with its text, and the kind that it has in the course, or none."""
    course, other = names
    now = datetime.now(UTC)

    async def issued(kind: TokenKind, prefix: SecretPrefix, **more: Any) -> str:
        secret = new_secret(prefix)
        token = AccessToken(token_id(secret), kind, digest(secret), now, name=token_hex(4), course=course)
        await store.access_tokens.add(replace(token, **more))
        return secret

    secret = new_secret(SecretPrefix.GRADER)
    headers = {"Authorization": f"Bearer {CLUSTER}", IDENTITY_HEADER: secret}
    joined = await client.http.post(f"/api/v2/graders/{owner}", json={"hostname": "h"}, headers=headers)
    assert joined.status_code == 200, joined.text
    return {
        "no token": (None, ""),
        "garbage": ("garbage", ""),
        "another course's": (token_of(other), ""),
        "a named one of another course": (await issued(TokenKind.COURSE, SecretPrefix.COURSE, course=other), ""),
        "expired": (await issued(TokenKind.COURSE, SecretPrefix.COURSE, expires_at=now - timedelta(seconds=1)), ""),
        "revoked": (await issued(TokenKind.COURSE, SecretPrefix.COURSE, revoked_at=now), ""),
        "a revoked student's": (await issued(TokenKind.STUDENT, SecretPrefix.STUDENT, revoked_at=now), ""),
        "staff": (token_of(course), "staff"),
        "named staff": (await issued(TokenKind.COURSE, SecretPrefix.COURSE), "staff"),
        "query": (f"query-{course.removeprefix('cs')}", "query"),
        "named query": (await issued(TokenKind.QUERY, SecretPrefix.COURSE), "query"),
        "student": (await issued(TokenKind.STUDENT, SecretPrefix.STUDENT, student="alice"), "student"),
        "operator": (OPERATOR, "operator"),
        "cluster": (CLUSTER, "join"),
        "join": (await issued(TokenKind.JOIN, SecretPrefix.JOIN, course=""), "join"),
        "grader": (secret, "grader"),
        "metrics": (METRICS_TOKEN, "metrics"),
    }


def test_every_operation_of_v2_is_tried() -> None:
    declared = {
        (method, re.sub(r"\{(\w+):\w+\}", r"{\1}", path)): {each.value for each in rights_of(handler).auth}
        for path, handlers in V2.items()
        for method, handler in handlers.items()
    }
    tried = {(method, path): schemes for method, path, _, schemes in OPERATIONS if path.startswith("/api/v2/")}
    assert declared.keys() == tried.keys()
    for key, auth in declared.items():
        assert {ACCESS.SCHEMES[each] for each in auth if each != "anybody"} == tried[key], key


def _is_tried(name: str, number: int) -> bool:
    """Return whether the operation of a number is tried with a credential."""
    turn = (number * TURNS_OF_EACH) % len(TURNS)
    return IS_WHOLE or name not in TURNS or name in (TURNS * 2)[turn : turn + TURNS_OF_EACH]


@pytest.mark.parametrize("number", range(len(OPERATIONS)), ids=[f"{o[0]} {o[1]}" for o in OPERATIONS])
async def test_an_operation_takes_its_declared_credentials_only(
    client: Client,
    credentials: Credentials,
    names: tuple[str, str],
    owner: str,
    number: int,
) -> None:
    method, path, operation, schemes = OPERATIONS[number]
    tried = {name: each for name, each in credentials.items() if _is_tried(name, number)}
    admitted = {}
    for name, (token, _) in tried.items():
        # Only the owner's own calls concern it: others join under new ids, and orders must not revoke it.
        is_own = "grader" in schemes or ("join" in schemes and name == "grader")
        grader = owner if is_own else f"new-{token_hex(4)}"
        url = re.sub(r"\{(\w+)\}", lambda m, grader=grader: _part(m[1], names[0], grader), path)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        admitted[name] = _is_admitted(await client.http.request(method, url, headers=headers))
    expected = {name: _is_expected(name, kind, path, schemes) for name, (_, kind) in tried.items()}
    assert admitted == expected, operation


def _part(name: str, course: str, grader: str) -> str:
    return {"course": course, "worker_id": grader, "scope": "all"}.get(name, "0123456789abcdef01234567")


def _is_admitted(answer: httpx2.Response) -> bool:
    if answer.status_code != 401:
        return True
    body = answer.json()
    text = body.get("detail") or body["data"]["message"]
    return text not in WRONG and not text.startswith("not signed")


def _is_expected(name: str, kind: str, path: str, schemes: frozenset[str]) -> bool:
    if not schemes:
        return True
    if "{" not in path and name in ("another course's", "a named one of another course"):
        return "staff" in schemes  # without a course in the path, these are staff of their own course
    if "join" in schemes and "{" in path:
        return kind in ("join", "grader")  # a grader joins again with its own secret
    return kind in schemes


@pytest.mark.parametrize("token", ["garbage", "staff", "bwc_" + "x" * 43])
async def test_unknown_courses_and_wrong_tokens_have_one_answer_in_v2(
    client: Client, names: tuple[str, str], token: str
) -> None:
    given = token_of(names[1]) if token == "staff" else token
    headers = {"Authorization": f"Bearer {given}"}
    answers = [
        await client.http.request(method, f"/api/v2/courses/{course}{path}", headers=headers)
        for course in ("nowhere", names[0])
        for method, path in (("GET", ""), ("GET", "/runs/x"), ("POST", "/assignments/x/runs"), ("DELETE", "/hooks/x"))
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(sorted(_stable(answer))) for answer in answers}) == 1


def _stable(answer: httpx2.Response) -> list[tuple[str, str]]:
    return [(key, value) for key, value in answer.headers.items() if key not in ("x-request-id", "date")]


async def test_no_read_of_a_query_token_contains_variables(client: Client, names: tuple[str, str]) -> None:
    course, canary = names[0], f"canary-{token_hex(8)}"
    await client.register(course, "mp1", students=[stage(env={"A": canary})], env={"B": canary})
    run_id = await client.submit(course, "mp1", 1, students_env=[{"C": canary}])
    jobs = (await client.describe(course, run_id))["jobs"]
    assert canary in str(jobs), "staff see the variables"
    where = {"course": course, "run_id": run_id, "job_id": jobs[0]["id"]}
    headers, run = {"Authorization": f"Bearer query-{course.removeprefix('cs')}"}, f"courses/{course}/runs/{run_id}"
    read = 0
    for method, path, _, schemes in sorted(OPERATIONS, key=lambda each: "/stream/" in each[1]):
        if method == "GET" and "query" in schemes:
            url = re.sub(r"\{(\w+)\}", lambda m: where[m[1]], path)
            url += "?prefix=abcdef" if path.endswith("/ids") else ""
            text = await _first_part(client, url, headers, run)
            assert canary not in text, path
            read += 1
    assert read >= 4


async def _first_part(client: Client, url: str, headers: dict[str, str], run: str) -> str:
    """Return an answer's text; of a stream, its first part, as it has no end yet.

    That of a job in v1 comes when its run is cancelled.
    """
    async with client.http.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200, url
        if answer.headers["content-type"] == "text/event-stream":
            if "/stream/" in url:
                staff = {"Authorization": headers["Authorization"].replace("query-", "staff-")}
                await client.http.post(f"/api/v2/{run}/cancel", json={}, headers=staff)
            return await anext(answer.aiter_text())
        return (await answer.aread()).decode()


def test_the_document_has_the_present_table() -> None:
    assert ACCESS.table() in (ROOT / "docs" / "access.md").read_text(), "run scripts/access.py"

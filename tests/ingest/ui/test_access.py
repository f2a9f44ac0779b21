"""Every page with sessions of every kind: the answers are those of the declarations, and nothing leaks to others."""

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from graded import REPORTED, World, results
from harness import IS_WHOLE, Client, token_of
from pymongo.asynchronous.database import AsyncDatabase
from visitors import OWN, Visitor

from broadway.connections import Connections
from broadway.domain.callback_delivery import Endpoint
from broadway.domain.regrade import Regrade, RegradeOrder
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.ingest.http.rights import rights_of
from broadway.ingest.ui.routes import PAGES
from broadway.settings.programs import IngestSettings

Visitors = Callable[[str], contextlib.AbstractAsyncContextManager[Visitor]]
PUBLIC = {"/ui/sign-in", "/s/{token:id}", "/ui/{rest:path}", "/ui/openid", "/ui/openid/back"}
REGRADE = token_hex(12)
OVER = ("expired", "idle", "ended")  # sessions with which pages take turns in the suite
FOREIGN = (*OVER, "nobody")


@pytest.fixture(scope="module")
async def world(client: Client, database: AsyncDatabase[dict[str, Any]], opened: Connections) -> World:
    tag, other = token_hex(4), token_hex(4)
    for each in (tag, other):
        await database["course"].insert_one({"_id": f"cs{each}", "tokens": [f"staff-{each}"], "query_tokens": []})
    world = World(client, f"cs{tag}", opened)
    await world.begin()
    await world.finish("ada", results(REPORTED), stdout="log\n")
    world.tokens["other course"] = f"staff-{other}"
    order, now = RegradeOrder(Select.ALL), datetime.now(UTC)
    regrade = Regrade(REGRADE, world.course, "mp1", order, {}, "d", now, state=RegradeState.DISCARDED)
    assert await opened.store.grades.regrades.add(regrade)
    entries = [{"student": each, "repository": f"cs/{each}"} for each in ("ada", "bob")]
    assert (await world.ask("assignments/mp1/roster", "PUT", json={"students": entries})).status_code == 200
    hook = {"assignment": "mp1", "secrets": ["a-secret-of-this-hook"]}
    made = await world.ask("hooks/git", "PUT", json=hook)
    assert made.status_code == 200, made.text
    endpoint = Endpoint(token_hex(12), world.course, "lms", "https://example.org", "s", now)
    assert await opened.store.callbacks.endpoints.add(endpoint)
    return world


@pytest.fixture(scope="module")
async def visitors(
    world: World, visit: Visitors, database: AsyncDatabase[dict[str, Any]], ingest_settings: IngestSettings
) -> AsyncIterator[dict[str, Visitor]]:
    """Visitors by name: those with sessions, and those whose sessions are over."""
    tokens = {
        "staff": token_of(world.course),
        "ada": world.tokens["ada"],
        "bob": world.tokens["bob"],
        "operator": "operator-token",
        "other course": world.tokens["other course"],
    }
    now = datetime.now(UTC)
    over = {
        "expired": {"expires_at": now - timedelta(seconds=1)},
        "idle": {"seen_at": now - timedelta(hours=13)},
        "ended": {"ended_at": now},
    }
    sessions = database["page_session"]
    async with contextlib.AsyncExitStack() as stack:
        found = {name: await stack.enter_async_context(visit(token)) for name, token in tokens.items()}
        for name, change in over.items():
            found[name] = await stack.enter_async_context(visit(tokens["staff"]))
            latest = await sessions.find_one({"courses": world.course}, sort=[("created_at", -1)])
            assert latest is not None
            await sessions.update_one({"_id": latest["_id"]}, {"$set": change})
        http = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{ingest_settings.bind_port}")
        found["nobody"] = Visitor(await stack.enter_async_context(http))
        yield found


OPERATIONS = [
    (method, path, handler)
    for path, handlers in PAGES.items()
    for method, handler in handlers.items()
    if path not in ("/ui/sign-out", "/ui/sessions/{session:id}/end")
]


@pytest.mark.parametrize("number", range(len(OPERATIONS)), ids=[f"{each[0]} {each[1]}" for each in OPERATIONS])
async def test_a_page_admits_its_declared_sessions_only(
    world: World, visitors: dict[str, Visitor], number: int
) -> None:
    method, path, handler = OPERATIONS[number]
    skipped = () if IS_WHOLE else {*OVER} - {OVER[number % len(OVER)]}
    parts = {
        "course": world.course,
        "run_id": world.run if method == "GET" else "0" * 24,  # nothing is cancelled
        "job": world.jobs["ada"] if method == "GET" else "0" * 24,
        "student": "ada" if method == "GET" else "nobody",
        "assignment": "mp1",
        "path": "main.c",
        "rest": "nothing",
        "grader": "nothing",
        "order": "pause",
        "letter": "0" * 24,
        "hook": "git",
        "callback": "lms" if method == "GET" else "nothing",
        "delivery": "0" * 24,
        "regrade": REGRADE if method == "GET" else "0" * 24,
        "adjustment": "0" * 20,
        "token": "bwl_" + "x" * 43,
        "session": "0" * 24,
    }
    url = re.sub(r"\{(\w+)(?::\w+)?\}", lambda part: parts[part[1]], path)
    kinds = {kind.value for kind in rights_of(handler).kinds}
    is_stream = url.endswith("/live")
    for name, visitor in visitors.items():
        if name in skipped:
            continue
        async with visitor.http.stream(method, url, headers=OWN) as answer:
            body = "" if is_stream and answer.status_code == 200 else (await answer.aread()).decode()
        assert_headers(answer)
        if path in PUBLIC:
            assert answer.status_code in (200, 404, 422), (name, answer.status_code)
        elif name in FOREIGN:
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/ui/sign-in"), name
        elif _is_admitted(name, kinds, path):
            assert answer.status_code != 401, name
            assert "there is no such page" not in body.lower() or method == "POST", (name, body)
        else:
            assert answer.status_code == 404, (name, answer.status_code)
            assert "mp1" not in body
        if name not in ("staff", "ada"):
            assert "secret-name" not in body, name


def assert_headers(answer: httpx2.Response) -> None:
    assert "access-control-allow-origin" not in answer.headers
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] in ("same-origin", "no-referrer")
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    if answer.headers.get("content-type", "").startswith("text/html"):
        assert "private" in answer.headers["cache-control"] or "no-store" in answer.headers["cache-control"]


def _is_admitted(name: str, kinds: set[str], path: str) -> bool:
    kind = {"ada": "student", "bob": "student", "operator": "operator"}.get(name, "staff")
    if kind not in kinds:
        return False
    if name == "other course":
        return "{course" not in path and "{job" not in path
    return not (name == "bob" and "{job" in path)


async def test_a_session_is_no_credential_of_the_api(visitors: dict[str, Visitor], world: World) -> None:
    for path in (f"/api/v2/courses/{world.course}", "/api/v2/whoami", f"/api/v1/queue/{world.course}/length"):
        assert (await visitors["staff"].get(path)).status_code == 401
    (secret,) = visitors["staff"].http.cookies.values()
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {secret}"}
        assert (await world.client.http.get("/api/v2/whoami", headers=headers)).status_code == 401


async def test_a_token_is_no_credential_of_a_page(world: World) -> None:
    headers = {"Authorization": f"Bearer {token_of(world.course)}"}
    answer = await world.client.http.get(f"/ui/c/{world.course}", headers=headers)
    assert answer.status_code == 303


async def test_every_declared_page_is_tried_or_has_a_test_of_its_own() -> None:
    tried = {path for _, path, _ in OPERATIONS}
    assert set(PAGES) - tried == {"/ui/sign-out", "/ui/sessions/{session:id}/end"}

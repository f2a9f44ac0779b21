"""Every unsafe operation of people leaves a record in the audit log, and no grader's does."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import pytest
from classes import Class, HandIn
from harness import Client, stage, token_of, until
from pushes import push, signature
from pymongo.asynchronous.database import AsyncDatabase
from structlog.testing import capture_logs

from broadway.domain.access import SecretPrefix, new_secret
from broadway.domain.audit import AuditRecord
from broadway.domain.callback import CallbackEvent
from broadway.domain.callback_delivery import Delivery, Endpoint
from broadway.domain.callback_delivery import new_secret as new_signing_secret
from broadway.domain.regrade import Regrade, RegradeOrder
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.ingest.commands.audit import Auditor
from broadway.ingest.commands.later import BackgroundTasks
from broadway.ingest.http.endpoint import route
from broadway.ingest.http.rights import STAFF, takes
from broadway.ingest.v2.docs_page import document
from broadway.messages.http import IDENTITY_HEADER
from broadway.mongo.store import Store
from broadway.ports import StoreError
from broadway.runtime.clock import now

Database = AsyncDatabase[dict[str, Any]]
OPERATOR = {"Authorization": "Bearer operator-token"}
SECRET = "0123456789abcdef-of-the-hook"
PEOPLE = {"courseToken", "operatorToken", "studentToken", "queryToken"}
CONFIG = {"student_pipeline": [stage(env={"A": "canary-config"})]}
UNSAFE = [
    (method, path, operation["operationId"])
    for path, item in document()["paths"].items()
    for method, operation in item.items()
    if method != "get" and any(PEOPLE.intersection(each) for each in operation.get("security", []))
]
EXTENSION = {"target": "student", "name": "alice", "add_days": 1, "reason": "ill"}
EXAMPLES: dict[str, Any] = {
    "courses_add": {"id": f"added-{token_hex(4)}"},
    "tokens_add": {"name": "Ada"},
    "tokens_revoke": None,
    "tokens_add_for_student": {"student": "alice"},
    "tokens_revoke_of_student": None,
    "links_add_for_students": {"expires_in_days": 30},
    "links_add_for_operator": None,
    "assignments_put": CONFIG,
    "assignment_settings_put": {"points": 10},
    "regrades_create": {"select": "all", "reason": "a wrong test"},
    "regrades_refresh": {},
    "regrades_publish": {"publish": "all", "note": "A test was wrong."},
    "regrades_discard": {},
    "submissions_create": None,
    "submissions_remove": None,
    "grade_sheets_merge": None,
    "grade_sheets_import": None,
    "hooks_put_roster": {
        "students": [{"student": "alice", "repository": "a/b", "env": {"A": "canary-roster"}}, {"student": "bob"}]
    },
    "runs_create": {"students_env": [{"A": "canary-run"}]},
    "orders_cancel_run": {"reason": "too late"},
    "orders_rerun_run": {},
    "orders_cancel_job": {},
    "orders_rerun_job": {},
    "hooks_put": {"assignment": "mp1", "format": "json", "secrets": ["canary-0123456789abcdef"]},
    "hooks_delete": None,
    "hooks_redeliver": {},
    "callbacks_add": {"name": "other", "url": "https://lms.example.org/"},
    "callbacks_put": {"url": "https://lms.example.org/2", "enabled": False},
    "callbacks_delete": None,
    "callbacks_rotate": {"hours": 1},
    "callbacks_ping": {},
    "callbacks_replay": {"since": datetime.now(UTC).isoformat()},
    "callback_deliveries_replay": {},
    "graders_pause": {"reason": "dusty"},
    "graders_resume": {},
    "graders_drain": {},
    "graders_set_slots": {"slots": 2},
    "graders_revoke": {"reason": "stolen"},
    "graders_readmit": None,
    "graders_forget_secret": None,
    "join_tokens_create": {"name": "rack 7"},
    "join_tokens_revoke": None,
    "pools_put": {"original_graders": False},
    "letters_discard": None,
    "letters_retry": None,
    "graders_forget": None,
    "grades_publish": {"based_on": 0, "note": "done"},
    "grades_undo": {"based_on": 1},
    "grade_adjustments_adjust": {"items": [{"student": "alice", "points": 1, "reason": "a test was wrong"}]},
    "grade_adjustments_withdraw": None,
    "extensions_add": EXTENSION,
    "extensions_withdraw": None,
    "claims_claim": {"days": 1},
    "claims_choose": {"submission": None},
    "retention_put": {"logs": 30},
    "retention_order": {"dry_run": True},
    "retention_order_deployment": {"dry_run": True},
    "students_delete": {"dry_run": True},
}


# Requests without a JSON body.
FORMS: dict[str, Any] = {
    "submissions_create": {"files": {"files": ("a", b"canary-file")}, "params": {"student": "alice"}},
    "submissions_remove": {"params": {"student": "alice"}},
    "grade_sheets_merge": {
        "content": b"student,mp1,canary-note\nalice,,canary\n",
        "params": {"column": "mp1", "version": "draft", "answer": "json"},
    },
    "grade_sheets_import": {
        "content": b"student,score,reason\nalice,1,a test was wrong\n",
        "params": {"version": "draft", "apply": "true"},
    },
    "extensions_withdraw": {"params": {"target": "student", "name": "alice"}},
    "claims_claim": {"params": {"student": "alice"}},
    "claims_choose": {"params": {"student": "alice"}},
}

POLICY = {
    "deadline": {"due": "2036-12-04T23:59"},
    "late_days": {"per_assignment": 2, "per_course": 5, "spend": "claimed"},
    "counts": "chosen",
}
# Requests about the assignment that come before others.
BEFORE: dict[str, tuple[str, str, Any]] = {
    "grades_undo": ("POST", "grades/publish", {"based_on": 0}),
    "extensions_withdraw": ("POST", "extensions", EXTENSION),
    "claims_claim": ("PUT", "settings", {"policy": POLICY}),
    "claims_choose": ("PUT", "settings", {"policy": POLICY}),
}


def staff(course: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(course)}"}


@pytest.fixture
async def place(client: Client, course: str, store: Store, database: Database, path: str) -> dict[str, str]:
    """The objects that the examples are about, by the names in paths: those that the path of an operation names."""
    http, base = client.http, f"/api/v2/courses/{course}"
    await client.register(course, "mp1", students=[stage()])
    roster = {"students": [{"student": "alice", "repository": "cs/alice", "env": {"B": "canary-before"}}]}
    (await http.put(f"{base}/assignments/mp1/roster", json=roster, headers=staff(course))).raise_for_status()
    made = {"course": course, "assignment": "mp1", "pool": f"p-{token_hex(4)}", "student": "alice"}
    named = set(re.findall(r"\{(\w+)\}", path))
    if "hook" in named:
        made |= await hook_in(client, course, database)
    if named & {"run_id", "job_id", "letter"}:
        made |= await run_in(client, course)
    if "worker_id" in named:
        made["worker_id"] = f"g-{token_hex(4)}"
        own = {"Authorization": "Bearer cluster-token", IDENTITY_HEADER: new_secret(SecretPrefix.GRADER)}
        url = f"/api/v2/graders/{made['worker_id']}"
        (await http.post(url, json={"hostname": "h"}, headers=own)).raise_for_status()
    if "letter" in named:
        subject, message = f"{course}/{made['run_id']}/{made['job_id']}", token_hex(8)
        await store.dead_letters.put(message_id=message, subject=subject, queue="q", reason="r", body=b"canary-letter")
        (letter,) = await store.dead_letters.latest(1)
        made["letter"] = letter.id
    if "callbacks" in path or "callback" in named:
        made |= await callback_in(store, course)
    return made


async def hook_in(client: Client, course: str, database: Database) -> dict[str, str]:
    """Make a hook with a delivery."""
    path = f"/api/v2/courses/{course}/hooks/git"
    hook = {"assignment": "mp1", "format": "github", "secrets": [SECRET]}
    (await client.http.put(path, json=hook, headers=staff(course))).raise_for_status()
    raw = json.dumps(push("nobody/known")).encode()
    headers = {"X-Hub-Signature-256": signature(raw, SECRET), "X-GitHub-Delivery": token_hex(8)}
    await client.http.post(path, content=raw, headers=headers)
    delivery = await database["hook_delivery"].find_one({"course": course})
    assert delivery is not None
    return {"hook": "git", "delivery": delivery["_id"]}


async def run_in(client: Client, course: str) -> dict[str, str]:
    """Start a run with one job."""
    run_id = await client.submit(course, "mp1", 1)
    (job,) = (await client.describe(course, run_id))["jobs"]
    return {"run_id": run_id, "job_id": job["id"]}


async def callback_in(store: Store, course: str) -> dict[str, str]:
    """Store an endpoint for callbacks with a delivery."""
    endpoint = Endpoint(token_hex(12), course, "lms", "https://lms.example.org/", new_signing_secret(b"s"), now())
    event = CallbackEvent.ping(course, endpoint.id, "n", name="lms", at=now())
    await store.callbacks.endpoints.add(endpoint)
    await store.callbacks.deliveries.add([callback := Delivery.of(event, endpoint)])
    return {"callback": "lms", "callback_delivery": callback.id}


TOKENS: dict[str, Callable[[str], tuple[str, Any, dict[str, str]]]] = {
    "tokens_revoke": lambda course: (f"/api/v2/courses/{course}/tokens", {"name": "Eve"}, staff(course)),
    "tokens_revoke_of_student": lambda course: (
        f"/api/v2/courses/{course}/student-tokens",
        {"student": "alice"},
        staff(course),
    ),
    "join_tokens_revoke": lambda _: ("/api/v2/join-tokens", {}, OPERATOR),
}


async def regraded(store: Store, course: str) -> str:
    """Store a regrade that can be decided; return its id."""
    now, regrade = datetime.now(UTC), token_hex(12)
    await Class(store, course).hand_in(HandIn("alice", now))
    made = Regrade(regrade, course, "mp1", RegradeOrder(Select.ALL), {}, "", now, state=RegradeState.READY)
    assert await store.grades.regrades.add(made)
    return regrade


async def prepare(client: Client, store: Store, operation: str, place: dict[str, str]) -> None:
    """Do what an operation needs to have been done before."""
    http, course = client.http, place["course"]
    if operation in TOKENS:
        path, body, headers = TOKENS[operation](course)
        place["token"] = (await http.post(path, json=body, headers=headers)).json()["id"]
    elif operation.startswith("regrades_"):
        place["regrade"] = await regraded(store, course)
    elif operation == "callback_deliveries_replay":
        place["delivery"] = place["callback_delivery"]
    elif operation == "graders_readmit":
        await http.post(f"/api/v2/graders/{place['worker_id']}/revoke", headers=OPERATOR)
    elif operation in ("orders_rerun_run", "orders_rerun_job"):
        await http.post(f"/api/v2/courses/{course}/runs/{place['run_id']}/cancel", headers=staff(course))
    elif operation in BEFORE:
        method, below, body = BEFORE[operation]
        url = f"/api/v2/courses/{course}/assignments/mp1/{below}"
        (await http.request(method, url, json=body, headers=staff(course))).raise_for_status()
    elif operation == "grade_adjustments_withdraw":
        url = f"/api/v2/courses/{course}/assignments/mp1/adjustments"
        made = await http.post(url, json=EXAMPLES["grade_adjustments_adjust"], headers=staff(course))
        place["adjustment"] = made.json()["items"][0]["id"]


def test_there_is_an_example_of_every_unsafe_operation() -> None:
    assert {operation for *_, operation in UNSAFE} == EXAMPLES.keys()


@pytest.mark.parametrize(("method", "path", "operation"), UNSAFE, ids=[operation for *_, operation in UNSAFE])
async def test_an_unsafe_operation_leaves_a_record(
    client: Client, store: Store, place: dict[str, str], method: str, path: str, operation: str
) -> None:
    await prepare(client, store, operation, place)
    url = re.sub(r"\{(\w+)\}", lambda m: place[m[1]], path)
    in_course = "{course}" in path
    headers = staff(place["course"]) if in_course else OPERATOR
    form = FORMS.get(operation, {})
    answer = await client.http.request(method, url, json=EXAMPLES[operation], headers=headers, **form)
    assert answer.status_code < 300 or operation == "hooks_redeliver", answer.text
    shown = url.replace("alice", answer.json()["student"]) if operation == "students_delete" else url

    async def kept() -> dict[str, Any] | None:
        found = await client.http.get(f"/api/v2/audit?operation={operation}&limit=500", headers=OPERATOR)
        return next((each for each in found.json()["items"] if each["object"] == shown), None)

    record = await until(kept)
    assert (record["kind"], record["name"]) == (("staff", "token 1") if in_course else ("operator", "operator"))
    assert (record["course"], record["status"]) == (place["course"] if in_course else None, answer.status_code)
    assert (record["address"], record["request"]) == ("127.0.0.1", answer.headers["x-request-id"])
    assert "canary" not in str(record)
    if EXAMPLES[operation]:
        assert record["given"].startswith("{")
    if operation not in (
        "courses_add",
        "tokens_add",
        "callbacks_add",
        "tokens_add_for_student",
        "links_add_for_students",
        "links_add_for_operator",
        "runs_create",
        "regrades_create",
        "join_tokens_create",
        "pools_put",
        "grade_adjustments_adjust",
        "extensions_add",
        "retention_order",
        "retention_order_deployment",
        "students_delete",
        *FORMS,
    ):
        assert record["before"].startswith("{"), "the state before"
    for secret in {"token", "secret"} & (answer.json() if answer.content else {}).keys():
        assert answer.json()[secret] not in str(record)
    assert not re.search(r"bw[a-z]_[A-Za-z0-9_-]{30}", str(record)), "a secret"


async def test_the_actions_of_v1_leave_records(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage(env={"A": "canary"})])
    run_id = await client.submit(course, "mp1", 1)

    async def records() -> list[dict[str, Any]]:
        found = await client.http.get(f"/api/v2/courses/{course}/audit", headers=staff(course))
        items: list[dict[str, Any]] = found.json()["items"]
        return items if len(items) == 2 else []

    started, registered = await until(records)
    assert (started["operation"], registered["operation"]) == ("startRun", "registerAssignment")
    assert run_id in started["after"]
    assert "student_pipeline" in registered["given"]
    assert "canary" not in str(registered)


async def test_a_refused_action_leaves_no_record(client: Client, course: str, store: Store) -> None:
    url = f"/api/v2/courses/{course}/assignments/mp1"
    for headers, body in ((staff(course), {"student_pipeline": 1}), ({}, CONFIG), (OPERATOR, CONFIG)):
        assert (await client.http.put(url, json=body, headers=headers)).status_code in (400, 401)
    assert (await client.http.delete(f"/api/v2/courses/{course}/hooks/x", headers=staff(course))).status_code == 404
    assert await store.audit.latest(course=course, limit=10) == []


async def test_nothing_that_a_grader_does_is_recorded(client: Client, database: AsyncDatabase[dict[str, Any]]) -> None:
    grader, secret = f"g-{token_hex(4)}", new_secret(SecretPrefix.GRADER)
    own = {"Authorization": f"Bearer {secret}"}
    join = {"Authorization": "Bearer cluster-token", IDENTITY_HEADER: secret}
    http, known = client.http, await database["audit"].count_documents({"object": {"$regex": grader}})
    assert (await http.post(f"/api/v2/graders/{grader}", json={"hostname": "h"}, headers=join)).status_code == 200
    assert (await http.post(f"/api/v1/worker/{grader}", json={"hostname": "h"}, headers=own)).status_code == 200
    assert (await http.post(f"/api/v1/heartbeat/{grader}", headers=own)).status_code == 200
    assert (await http.get(f"/api/v1/grading_job/{grader}", headers=own)).status_code == 498
    assert (await http.post(f"/api/v1/grading_job/{grader}", json={}, headers=own)).status_code == 400
    assert (await http.delete(f"/api/v2/graders/{grader}", headers=own)).status_code == 204
    assert await database["audit"].count_documents({"object": {"$regex": grader}}) == known == 0


async def test_records_are_read_page_by_page_and_filtered(client: Client, course: str, other_course: str) -> None:
    for number in range(5):
        await client.register(course, f"mp{number}", students=[stage()])
    await client.register(other_course, "mp1", students=[stage()])
    url = f"/api/v2/courses/{course}/audit"

    async def read(query: str) -> dict[str, Any]:
        page: dict[str, Any] = (await client.http.get(f"{url}?{query}", headers=staff(course))).json()
        return page

    pages, after = [], ""
    for _ in range(3):
        page = await read(f"limit=2{after}")
        pages.append([each["object"].rpartition("/")[2] for each in page["items"]])
        after = f"&after={page['next']}"
    assert pages == [["mp4", "mp3"], ["mp2", "mp1"], ["mp0"]]
    assert (await read("operation=startRun"))["items"] == []
    assert (await read("name=token%202"))["items"] == []
    assert len((await read("name=token%201&operation=registerAssignment"))["items"]) == 5
    every = await client.http.get(f"/api/v2/audit?course={other_course}", headers=OPERATOR)
    assert [each["course"] for each in every.json()["items"]] == [other_course]
    assert (await client.http.get(f"{url}?after=x", headers=staff(course))).status_code == 400


class Failing:
    """An audit log whose store is unavailable for a number of writes."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.stored: list[AuditRecord] = []

    async def add(self, record: AuditRecord, *, is_urgent: bool) -> None:
        assert is_urgent
        if self.failures:
            self.failures -= 1
            raise StoreError("away")
        self.stored.append(record)


@pytest.mark.parametrize(("failures", "stored"), [(3, 1), (1_000_000, 0)])
async def test_an_answer_does_not_fail_for_its_record(
    monkeypatch: pytest.MonkeyPatch, failures: int, stored: int
) -> None:
    monkeypatch.setattr("broadway.ingest.commands.audit.PAUSE", 0.001)
    if not stored:
        monkeypatch.setattr("broadway.ingest.commands.audit.PATIENCE", 0.01)
    now, store = datetime.now(UTC), Failing(failures)
    record = AuditRecord("0" * 24, now, "staff", "Ada", "::1", "op", "/x", "c", 200, None, None, None)
    with capture_logs() as logs:
        async with BackgroundTasks() as tasks:
            await Auditor(store, tasks.add).keep(record)
    assert len(store.stored) == stored
    assert [line["record"]["name"] for line in logs if line["event"] == "audit record lost"] == ["Ada"] * (1 - stored)


def test_a_route_without_a_declaration_does_not_start() -> None:
    async def forgotten(*_: Any) -> Any: ...

    @takes(*STAFF)
    async def without_state(*_: Any) -> Any: ...

    unused: Any = None
    with pytest.raises(TypeError, match="declare its credentials"):
        route(unused, "/api/v2/x", GET=forgotten)
    with pytest.raises(TypeError, match="declare the state before it"):
        route(unused, "/api/v2/x", POST=without_state)

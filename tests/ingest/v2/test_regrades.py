"""Regrades over v2, without graders: their orders, and the runs of their parts, which no list has."""

from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from classes import CONFIG, Class, HandIn
from harness import Client, token_of, until
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.regrade import Regrade, RegradeOrder
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.domain.run import Run, RunState
from broadway.ingest.commands.regrade import MAX_ACTIVE
from broadway.mongo.store import Store

NOW = datetime(2026, 11, 20, tzinfo=UTC)
STUDENTS = ("ada", "bob", "cyd")


class Staff:
    """The staff of a course whose students have handed in once, and were graded."""

    def __init__(self, client: Client, course: str, of_class: Class) -> None:
        self.http = client.http
        self.of_class = of_class
        self.course = f"/api/v2/courses/{course}"
        self.headers = {"Authorization": f"Bearer {token_of(course)}"}

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        url = f"{self.course}/{path}"
        return await self.http.request(method, url, json=body, headers={**self.headers, **headers})

    async def versions(self) -> list[dict[str, Any]]:
        return list((await self.ask("GET", "assignments/mp1/grades/versions")).json()["items"])

    async def start(self, *, status: int = 201, key: str = "", **order: Any) -> dict[str, Any]:
        headers = {"Idempotency-Key": key} if key else {}
        answer = await self.ask("POST", "assignments/mp1/regrades", order, **headers)
        assert answer.status_code == status, answer.text
        return dict(answer.json())


@pytest.fixture
async def staff(client: Client, course: str, store: Store) -> Staff:
    of_class = Class(store, course)
    await of_class.prepare(STUDENTS, {"points": 10})
    run = token_hex(12)
    given = [HandIn(student, NOW) for student in STUDENTS]
    await of_class.hand_in(*given, run=run)
    envs = [{"BROADWAY_STUDENT": each.student, "BROADWAY_SUBMITTED_AT": NOW.isoformat()} for each in given]
    assert await store.runs.insert(Run(run, course, "mp1", RunState.FINISHED, NOW, CONFIG, students_env=envs))
    return Staff(client, course, of_class)


async def _runs(database: AsyncDatabase[dict[str, Any]], regrade: str, count: int) -> list[str]:
    """Return the runs of a regrade, once as many are stored."""

    async def found() -> list[str]:
        documents = await database["grading_run"].find({"regrade": regrade}, {"_id": 1}).to_list()
        return [str(each["_id"]) for each in documents] if len(documents) == count else []

    runs: list[str] = await until(found)
    return runs


async def test_the_runs_of_a_regrade_are_in_no_list_and_its_jobs_in_no_line(
    staff: Staff, store: Store, database: AsyncDatabase[dict[str, Any]], course: str
) -> None:
    before = (await staff.ask("GET", "runs")).json()
    regrade = await staff.start()

    (run,) = await _runs(database, regrade["id"], 1)

    view = (await staff.ask("GET", f"runs/{run}")).json()
    assert (view["assignment"], view["trigger"]) == ("mp1", None)
    jobs = (await staff.ask("GET", f"runs/{run}/jobs")).json()["items"]
    assert len(jobs) == len(STUDENTS)
    assert (await staff.ask("GET", "runs")).json() == before
    assert await store.jobs.count_waiting(course) == 0
    assert await store.jobs.waiting_in_course(course) == []
    bulk = await staff.of_class.grade([HandIn("ada", NOW, outcome=None), HandIn("bob", NOW, outcome=None)])
    second = await store.jobs.get(bulk[1])
    assert second is not None
    assert await store.jobs.position(second) == 1, "behind the first one, and not behind a regrade"
    refused = await staff.ask("POST", f"runs/{run}/rerun", {"config": "current"})
    assert (refused.status_code, "refresh the regrade" in refused.json()["detail"]) == (409, True)


async def test_a_regrade_leaves_room_below_the_cap_of_its_course(
    staff: Staff, database: AsyncDatabase[dict[str, Any]], course: str
) -> None:
    await database["course"].update_one({"_id": course}, {"$set": {"concurrency": 3}})
    regrade = await staff.start()

    first, second = await _runs(database, regrade["id"], 2)

    jobs = [len((await staff.ask("GET", f"runs/{run}/jobs")).json()["items"]) for run in (first, second)]
    assert jobs == [1, 1]
    await staff.ask("POST", f"runs/{first}/cancel")
    third = set(await _runs(database, regrade["id"], 3)) - {first, second}
    assert len(third) == 1, "it begins when the first one has ended"


async def test_an_order_is_one_regrade_however_often_it_is_sent(staff: Staff) -> None:
    made = await staff.start(key="k", select="all", reason="r")
    assert (made["state"], made["select"], made["reason"], made["counts"]) == ("draft", "all", "r", None)
    again = await staff.start(status=200, key="k", select="all", reason="r")
    assert again["id"] == made["id"]
    other = await staff.start(status=422, key="k", select="latest")
    assert "another regrade" in other["detail"]
    listed = (await staff.ask("GET", "assignments/mp1/regrades")).json()["items"]
    assert [each["id"] for each in listed] == [made["id"]]


@pytest.mark.parametrize(
    ("order", "status", "expected"),
    [
        ({"select": "chosen", "submissions": ["unknown"]}, 422, "submissions: unknown is not a graded submission"),
        ({"select": "chosen"}, 400, "expected submissions with the select chosen"),
        ({"submissions": ["a"]}, 400, "expected submissions with the select chosen"),
        ({"control_percent": 0}, 400, "control_percent"),
        ({"reason": "x" * 2001}, 400, "reason"),
        ({"select": "best"}, 400, "select"),
    ],
    ids=["unknown", "none chosen", "not chosen", "no percent", "long", "unknown select"],
)
async def test_an_order_that_fits_nothing_is_refused(
    staff: Staff, order: dict[str, Any], status: int, expected: str
) -> None:
    refused = await staff.start(status=status, **order)
    assert expected in refused["detail"]


async def test_the_regrades_under_way_of_a_course_are_bounded(staff: Staff, store: Store, course: str) -> None:
    order, at = RegradeOrder(Select.ALL), datetime.now(UTC) + timedelta(days=1)  # to be cleaned then
    for _ in range(MAX_ACTIVE):
        discarded = Regrade(token_hex(12), course, "mp1", order, {}, "", NOW, state=RegradeState.DISCARDED, clean_at=at)
        assert await store.grades.regrades.add(discarded)
    refused = await staff.ask("POST", "assignments/mp1/regrades", {})
    assert refused.status_code == 409
    assert refused.json()["detail"].startswith(f"regrade: {course} has {MAX_ACTIVE} regrades under way")


async def test_an_assignment_without_results_has_nothing_to_regrade(staff: Staff, client: Client, course: str) -> None:
    await client.register(course, "mp2", students=CONFIG["student_pipeline"])
    answer = await staff.ask("POST", "assignments/mp2/regrades", {})
    assert (answer.status_code, answer.json()["detail"]) == (422, "no submission for this assignment is graded")
    assert (await staff.ask("POST", "assignments/mp3/regrades", {})).status_code == 404


async def test_another_course_sees_no_regrade(staff: Staff, client: Client, other_course: str) -> None:
    regrade = await staff.start()
    headers = {"Authorization": f"Bearer {token_of(other_course)}"}
    for method, path in (("GET", ""), ("GET", "/rows"), ("POST", "/discard"), ("POST", "/refresh")):
        url = f"/api/v2/courses/{other_course}/regrades/{regrade['id']}{path}"
        answer = await client.http.request(method, url, headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (404, "this course has no such regrade")


async def test_a_poll_without_a_change_has_no_body(staff: Staff, store: Store, course: str) -> None:
    regrade = await _ready(store, course)
    first = await staff.ask("GET", f"regrades/{regrade}")
    assert first.status_code == 200
    again = await staff.ask("GET", f"regrades/{regrade}", **{"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_publication_needs_a_note_and_names_its_students(staff: Staff, store: Store, course: str) -> None:
    regrade = await _ready(store, course)
    path = f"regrades/{regrade}/publish"
    for body, expected in (
        ({"publish": "all"}, "note"),
        ({"publish": "all", "note": " "}, "note: should not be blank"),
        ({"publish": "chosen", "note": "n"}, "expected students with the publish chosen"),
        ({"publish": "all", "note": "n", "students": ["ada"]}, "expected students with the publish chosen"),
    ):
        refused = await staff.ask("POST", path, body)
        assert (refused.status_code, expected in refused.json()["detail"]) == (400, True), refused.text
    refused = await staff.ask("POST", path, {"publish": "chosen", "note": "n", "students": ["eve"]})
    assert (refused.status_code, refused.json()["detail"]) == (422, "students: eve is not in this regrade")


async def test_a_repeated_publication_is_one_version(staff: Staff, store: Store, course: str) -> None:
    regrade = await _ready(store, course)
    path, body = f"regrades/{regrade}/publish", {"publish": "all", "note": "n"}
    answers = [await staff.ask("POST", path, body, **{"Idempotency-Key": "k"}) for _ in range(2)]
    assert [(each.status_code, each.json()["version"]) for each in answers] == [(200, 1), (200, 1)]
    changed = await staff.ask("POST", path, {**body, "publish": "raise"}, **{"Idempotency-Key": "k"})
    assert (changed.status_code, "had this key" in changed.json()["detail"]) == (422, True), changed.text
    other = await staff.ask("POST", path, body, **{"Idempotency-Key": "other"})
    assert (other.status_code, "already" in other.json()["detail"]) == (409, True)
    (version,) = (await staff.ask("GET", "assignments/mp1/grades/versions")).json()["items"]
    assert (version["made_from"], version["source"], version["students"]) == ("regrade", regrade, len(STUDENTS))

    assert (await staff.ask("POST", "assignments/mp1/grades/undo", {"based_on": 1})).status_code == 200
    late = await staff.ask("POST", path, body, **{"Idempotency-Key": "k"})
    assert late.status_code == 200
    assert [each["number"] for each in await staff.versions()] == [2, 1], "a late repetition undoes no undo"
    assert (await staff.ask("POST", path, body, **{"Idempotency-Key": "other"})).json()["version"] == 3


async def _ready(store: Store, course: str) -> str:
    """Store a regrade without submissions whose jobs have ended."""
    identity = token_hex(12)
    order = RegradeOrder(Select.ALL)
    assert await store.grades.regrades.add(
        Regrade(identity, course, "mp1", order, CONFIG, "d", NOW, state=RegradeState.READY)
    )
    return identity


async def test_an_interrupted_publication_is_noted_or_given_up(
    staff: Staff, store: Store, database: AsyncDatabase[dict[str, Any]], course: str
) -> None:
    """Bring regrades into the states that a crash leaves, before and after the grade book's version is published."""
    before, after = await _ready(store, course), await _ready(store, course)
    answer = await staff.ask("POST", f"regrades/{after}/publish", {"publish": "all", "note": "n"})
    assert answer.status_code == 200, answer.text
    left = {"state": "ready", "version": None, "publishing_at": datetime.now(UTC), "is_active": True}
    await database["regrade"].update_many({"_id": {"$in": [before, after]}}, {"$set": left})
    for regrade, expected in ((before, "is being published"), (after, "is published as version 1")):
        discarded = await staff.ask("POST", f"regrades/{regrade}/discard")
        assert (discarded.status_code, expected in discarded.json()["detail"]) == (409, True), discarded.text
    left["publishing_at"] = NOW
    await database["regrade"].update_many({"_id": {"$in": [before, after]}}, {"$set": left})

    async def settled() -> list[dict[str, Any]]:
        found = await database["regrade"].find({"_id": {"$in": [before, after]}}).to_list()
        return [] if any(each["publishing_at"] for each in found) else found

    states = {each["_id"]: (each["state"], each["version"]) for each in await until(settled)}
    assert states == {before: ("ready", None), after: ("published", 1)}

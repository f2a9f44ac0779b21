"""Grades over v2: the draft and versions for staff, a student's own published grade, adjustments, and the audit log."""

from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from classes import Class, HandIn
from harness import Client, token_of

from broadway.domain.extension import Extension, ExtensionOrder, Target
from broadway.domain.grade_lines import TIMES
from broadway.domain.job import Outcome
from broadway.domain.roster import RosterEntry
from broadway.mongo.store import Store

DUE = datetime(2026, 11, 20, 22, 59, tzinfo=UTC)  # 23:59 in Berlin
POLICY: dict[str, Any] = {
    "zone": "Europe/Berlin",
    "deadline": {
        "opens": "2026-11-01T00:00",
        "due": "2026-11-20T23:59",
        "grace_seconds": 300,
        "credit": [{"until": "2026-11-25T23:59", "percent": 50}],
    },
    "late_days": {"per_assignment": 2, "per_course": 3},
    "attempts": {"total": 2, "past_limit": "practice"},
}
SETTINGS: dict[str, Any] = {"points": 10, "policy": POLICY}


class Staff:
    """Requests of the staff of a course about an assignment."""

    def __init__(self, client: Client, course: str, assignment: str = "mp1") -> None:
        self.http = client.http
        self.course = f"/api/v2/courses/{course}"
        self.base = f"{self.course}/assignments/{assignment}"
        self.headers = {"Authorization": f"Bearer {token_of(course)}"}

    async def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        headers = {**self.headers, **options.pop("headers", {})}
        answer = await self.http.request(method, f"{self.base}/{path}", headers=headers, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def publish(self, based_on: int, status: int = 200, **body: Any) -> Any:
        return await self.ask("POST", "grades/publish", status, json={"based_on": based_on, **body})

    async def points(self, version: str = "draft") -> dict[str, Any]:
        found = await self.ask("GET", f"grades?version={version}")
        return {each["student"]: each["points"] for each in found["items"]}

    async def student(self, name: str) -> dict[str, str]:
        """Return the headers of a student's own token."""
        answer = await self.http.post(f"{self.course}/student-tokens", json={"student": name}, headers=self.headers)
        assert answer.status_code == 201, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    async def own(self, name: str, headers: dict[str, str], **options: str) -> httpx2.Response:
        path = f"{self.course}/students/{name}/assignments/{self.base.rpartition('/')[2]}/grade"
        return await self.http.get(path, headers={**headers, **options})


@pytest.fixture
def staff(client: Client, course: str) -> Staff:
    return Staff(client, course)


@pytest.fixture
async def group(store: Store, course: str) -> Class:
    made = Class(store, course)
    await made.prepare(["ada", "bob"], {"points": 10})
    await made.hand_in(HandIn("ada", DUE, score="7"))
    return made


async def test_the_policy_from_submissions_to_the_lines_of_published_grades(
    store: Store, course: str, staff: Staff
) -> None:
    """Each kind of student once: the grade, the late days charged, and the line that says why."""
    group = Class(store, course)
    team = RosterEntry(student="team", members=("fay", "gus"))
    names = ["on-time", "grace", "late", "days", "extended", "error", "none", "practice"]
    await group.prepare([*names, team], SETTINGS)
    hour, day = timedelta(hours=1), timedelta(days=1)
    await group.hand_in(
        HandIn("on-time", DUE, score="9"),
        HandIn("grace", DUE + timedelta(minutes=5), score="9"),
        HandIn("late", DUE + 3 * day, score="9"),
        HandIn("days", DUE + day + hour, score="9"),
        HandIn("extended", DUE + 4 * day, score="9"),
        HandIn("error", DUE - day, score="6"),
        HandIn("error", DUE, Outcome.INFRASTRUCTURE_ERROR, number=2),
        HandIn("practice", DUE - 3 * day, score="3"),
        HandIn("practice", DUE - 2 * day, score="4", number=2),
        HandIn("practice", DUE - day, score="10", number=3),
        HandIn("team", DUE + hour, score="8"),
    )
    # An earlier assignment has charged gus all late days of the course.
    earlier = Class(store, course, "mp0")
    before = {**POLICY, "late_days": {"per_assignment": 3, "per_course": 3}}
    before["deadline"] = {"due": "2026-11-10T23:59"}
    await earlier.prepare(["gus"], {"points": 10, "policy": before})
    await earlier.hand_in(HandIn("gus", datetime(2026, 11, 13, 12, tzinfo=UTC)))
    order = ExtensionOrder(target=Target.STUDENT, name="extended", add_days=5, reason="ill")
    assert await store.grades.extensions.add(course, "mp1", Extension("1", order, datetime.now(UTC)), number=1)

    await staff.publish(0, note="Have a look.")

    found = await staff.ask("GET", "grades?version=published")
    seen = {
        each["student"]: (each["status"], each["points"], each["late_days"], [line["text"] for line in each["lines"]])
        for each in found["items"]
    }
    expected = {
        "on-time": ("graded", "9", 0, "it is on time"),
        "grace": ("graded", "9", 0, "it is 5 minutes late, which the grace of 5 minutes allows"),
        "late": ("graded", "4.5", 0, f"Late credit: 9 {TIMES} 50 % = 4.5."),
        "days": ("graded", "9", 2, "this submission uses 2, so that it loses no points; 1 of yours is left"),
        "extended": ("graded", "9", 0, "with your extension"),
        "error": ("graded", "6", 0, "something failed on our side; it uses no attempt, and is graded again"),
        "practice": ("graded", "4", 0, "it is beyond the limit of attempts, and for practice only"),
        "none": ("not_submitted", None, 0, "There is no submission."),
        "fay": ("graded", "8", 1, "this submission uses 1, so that it loses no points; 2 of yours are left"),
        "gus": ("graded", "4", 0, f"Late credit: 8 {TIMES} 50 % = 4."),
    }
    assert {student: each[:3] for student, each in seen.items()} == {s: each[:3] for s, each in expected.items()}
    for student, (*_, text) in expected.items():
        assert any(text in line for line in seen[student][3]), (student, seen[student][3])
    assert found["statuses"] == {"graded": 9, "not_submitted": 1}
    assert found["unsettled"] == 1


async def test_students_see_their_own_published_grade_only(group: Class, staff: Staff) -> None:
    ada = await staff.student("ada")
    unpublished = await staff.own("ada", ada)
    assert (unpublished.status_code, unpublished.json()["detail"]) == (
        404,
        "no grades of this assignment are published",
    )

    await staff.publish(0, reason="for staff", note="Well done.")
    await group.hand_in(HandIn("ada", DUE + timedelta(hours=1), score="3", number=2))  # in the draft only

    answer = await staff.own("ada", ada)
    seen = answer.json()
    assert (seen["version"], seen["note"], seen["grade"]["points"], seen["grade"]["staff"]) == (
        1,
        "Well done.",
        "7",
        None,
    )
    of_staff = (await staff.ask("GET", "grades?version=1"))["items"][0]
    assert seen["grade"]["job"] == of_staff["job"] == of_staff["staff"]["job"] != ""
    assert [line["text"] for line in seen["grade"]["lines"]] == [
        "Submission 1 of 1 (20 Nov 2026, 22:59 UTC) counts.",
        "Tests: 7 of 10 points.",
        "Grade: 7 of 10 points.",
    ]
    assert "for staff" not in answer.text
    again = await staff.own("ada", ada, **{"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await staff.own("bob", ada)).status_code == 403
    assert (await staff.http.get(f"{staff.base}/grades", headers=ada)).status_code == 401
    assert (await staff.own("ada", staff.headers)).json()["grade"]["points"] == "3"


async def test_an_undo_and_the_history_of_versions(group: Class, staff: Staff) -> None:
    await staff.publish(0, reason="first")
    await group.hand_in(HandIn("bob", DUE, score="4"))
    await staff.publish(1, reason="second")
    assert await staff.points("published") == {"ada": "7", "bob": "4"}

    undone = await staff.ask("POST", "grades/undo", json={"based_on": 2, "reason": "too early"})
    assert (undone["number"], undone["made_from"], undone["source"]) == (3, "undo", "1")
    assert await staff.points("published") == {"ada": "7", "bob": None}
    assert await staff.points("2") == {"ada": "7", "bob": "4"}
    await staff.publish(3)

    first = await staff.ask("GET", "grades/versions?limit=3")
    assert [(each["number"], each["reason"], each["is_published"]) for each in first["items"]] == [
        (4, "", True),
        (3, "too early", False),
        (2, "second", False),
    ]
    rest = await staff.ask("GET", f"grades/versions?limit=3&after={first['next']}")
    assert [(each["number"], each["reason"]) for each in rest["items"]] == [(1, "first")]
    assert rest["next"] is None


async def test_a_publisher_who_has_not_seen_the_published_version_is_told(group: Class, staff: Staff) -> None:
    await staff.publish(0)
    told = await staff.publish(0, 409)
    assert told["detail"].startswith("version 1 is published, not version 0; look at the grades again")
    told = await staff.ask("POST", "grades/undo", 409, json={"based_on": 5})
    assert told["detail"].startswith("version 1 is published, not version 5")
    assert [each["number"] for each in (await staff.ask("GET", "grades/versions"))["items"]] == [1]
    assert group.assignment == "mp1"


async def test_a_repeated_publication_makes_one_version(group: Class, staff: Staff) -> None:
    key = {"headers": {"Idempotency-Key": token_hex(4)}, "json": {"based_on": 0, "note": "once"}}
    first = await staff.ask("POST", "grades/publish", **key)
    await group.hand_in(HandIn("bob", DUE))
    assert await staff.ask("POST", "grades/publish", **key) == first
    assert await staff.points("published") == {"ada": "7", "bob": None}


async def test_adjustments_are_listed_and_withdrawn(group: Class, staff: Staff) -> None:
    made = await staff.ask(
        "POST",
        "adjustments",
        201,
        json={
            "items": [
                {"student": "ada", "points": "1.25", "reason": "a test was wrong"},
                {"student": "bob", "kind": "final", "points": 5, "reason": "oral exam"},
            ]
        },
    )
    assert await staff.points() == {"ada": "8.25", "bob": "5"}
    listed = await staff.ask("GET", "adjustments?limit=1")
    assert [each["student"] for each in listed["items"]] == ["bob"]
    rest = await staff.ask("GET", f"adjustments?limit=1&after={listed['next']}")
    assert [each["student"] for each in rest["items"]] == ["ada"]
    ada = made["items"][0]["id"]
    withdrawn = await staff.ask("DELETE", f"adjustments/{ada}?reason=mistake")
    assert (withdrawn["withdrawn_reason"], bool(withdrawn["withdrawn_at"])) == ("mistake", True)
    await staff.ask("DELETE", f"adjustments/{ada}", 404)
    assert await staff.points() == {"ada": "7", "bob": "5"}
    assert len((await staff.ask("GET", "adjustments?student=ada"))["items"]) == 1
    assert group.assignment == "mp1"


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"student": "ada", "points": "1", "reason": " "}, "items.0.reason"),
        ({"student": "ada", "reason": "r"}, "points: expected a number, except for the kind excused"),
        ({"student": "ada", "kind": "excused", "points": 1, "reason": "r"}, "points: expected a number, except"),
        ({"student": "ada", "kind": "final", "points": "-1", "reason": "r"}, "points: expected at least 0"),
        ({"student": "ada", "points": "1000001", "reason": "r"}, "items.0.points"),
        ({"student": "ada", "points": "0.00001", "reason": "r"}, "at most 4 decimal places"),
        ({"student": "ada", "points": "NaN", "reason": "r"}, "items.0.points"),
    ],
    ids=["no reason", "no points", "excused with points", "negative", "large", "digits", "no number"],
)
async def test_an_adjustment_out_of_bounds_is_refused(
    group: Class, staff: Staff, item: dict[str, Any], text: str
) -> None:
    told = await staff.ask("POST", "adjustments", 400, json={"items": [item]})
    assert text in told["detail"]
    assert await staff.points() == {"ada": "7", "bob": None}
    assert group.assignment == "mp1"


async def test_who_did_what_is_in_the_audit_log(group: Class, staff: Staff, store: Store) -> None:
    adjustment = {"items": [{"student": "ada", "points": 1, "reason": "r"}]}
    made = await staff.ask("POST", "adjustments", 201, json=adjustment)
    await staff.publish(0, reason="why")
    await staff.ask("POST", "grades/undo", json={"based_on": 1})
    await staff.ask("DELETE", f"adjustments/{made['items'][0]['id']}")
    answer = await staff.http.get(f"{staff.course}/audit", headers=staff.headers)
    records = answer.json()["items"]
    assert [each["operation"] for each in reversed(records)] == [
        "grade_adjustments_adjust",
        "grades_publish",
        "grades_undo",
        "grade_adjustments_withdraw",
    ]
    assert '"reason":"why"' in records[2]["given"]
    assert records[1]["before"] == '{"published":1}'
    assert group.store is store


async def test_another_courses_grades_are_not_found(
    group: Class, client: Client, other_course: str, staff: Staff
) -> None:
    await staff.publish(0)
    other = Staff(client, other_course)
    assert (await other.ask("GET", "grades", 404))["detail"] == "this course has no such assignment"
    await other.publish(1, 404)
    assert (await other.http.get(f"{staff.base}/grades", headers=other.headers)).status_code == 401
    assert group.course != other_course


async def test_pages_of_grades_are_in_the_order_of_students(store: Store, course: str, staff: Staff) -> None:
    group = Class(store, course)
    await group.prepare([f"s{number}" for number in range(5)], {"points": 10})
    seen, after = [], ""
    while after is not None:
        page = await staff.ask("GET", f"grades?limit=2{after and f'&after={after}'}")
        seen += [each["student"] for each in page["items"]]
        after = page["next"]
    assert seen == [f"s{number}" for number in range(5)]
    assert (page["students"], page["published"], page["version"]) == (5, 0, None)

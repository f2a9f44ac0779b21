"""The page of tokens: named ones of a course, those of students, and who is signed in."""

import re
from typing import Any

import pytest
from graded import World
from harness import token_of
from pymongo.asynchronous.database import AsyncDatabase
from visitors import Visitor

from tests.ingest.ui.conftest import Visitors


@pytest.fixture
def page(world: World) -> str:
    return f"/ui/c/{world.course}/tokens"


def secret_in(text: str) -> str:
    found = re.search(r"<code>(bw[cs]_[A-Za-z0-9_-]+)</code>", text)
    assert found, text
    return found[1]


@pytest.mark.parametrize("who", ["staff", "operator"])
async def test_a_token_is_shown_once_works_and_is_revoked(world: World, visit: Visitors, page: str, who: str) -> None:
    async with visit(token_of(world.course) if who == "staff" else "operator-token") as visitor:
        assert "no named token yet" in await visitor.text(page)
        made = await visitor.post(page, {"name": "<b>ana</b>", "kind": "staff", "days": "30"})
        assert (made.status_code, made.headers["cache-control"]) == (200, "no-store")
        secret = secret_in(made.text)
        listed = await visitor.text(page)
        assert secret not in listed
        assert "&lt;b&gt;ana&lt;/b&gt;" in listed
        assert (await world.ask("assignments", token=secret)).status_code == 200
        async with visit(secret) as ana:
            assert (await ana.get(f"/ui/c/{world.course}")).status_code == 200
            assert "&lt;b&gt;ana" in (await visitor.text(page)).partition("Signed in now")[2]
            revoke = re.search(rf'action="({page}/[0-9a-f]+/revoke)"', listed)
            assert revoke is not None
            assert (await visitor.post(revoke[1])).status_code == 303
            assert (await ana.get(f"/ui/c/{world.course}")).status_code == 303
        assert (await world.ask("assignments", token=secret)).status_code == 401
        assert (await visitor.post(revoke[1])).status_code == 404
        assert "revoked" in await visitor.text(page)


async def test_a_student_gets_a_token_that_others_do_not_see(world: World, staff: Visitor, page: str) -> None:
    made = await staff.post(page, {"for": "student", "student": "bob", "days": ""})
    secret = secret_in(made.text)
    assert (await world.ask("submissions", token=secret)).status_code in (404, 405)  # it is known, and no staff's
    assert (await world.ask("students/bob/assignments", token=secret)).status_code == 200
    of_bob = await staff.text(f"{page}?student=bob")
    assert "never" in of_bob
    assert ">bob</bdi>" in of_bob
    assert "no token and no link" in await staff.text(f"{page}?student=nobody")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"name": ""}, "name: is missing"),
        ({"name": "x" * 101}, "at most 100 characters"),
        ({"name": "a", "days": "soon"}, "days: expected a number of days"),
        ({"name": "a", "days": "0"}, "expires_in_days"),
        ({"name": "a", "kind": "operator"}, "kind: should be"),
        ({"for": "student", "student": "nobody"}, "nobody is in no roster of the course"),
        ({"for": "student"}, "student: is missing"),
    ],
    ids=["no name", "long", "no number", "no day", "no kind", "no student", "nothing"],
)
async def test_a_refused_form_is_shown_again_with_the_reason(
    kept_staff: Visitor, kept_world: World, form: dict[str, str], words: str
) -> None:
    refused = await kept_staff.post(f"/ui/c/{kept_world.course}/tokens", form)
    assert refused.status_code in (400, 409, 422)
    assert words in refused.text, refused.text
    assert 'role="alert"' in refused.text
    assert (form.get("student") or form.get("name") or "")[:100] in refused.text


async def test_a_name_is_taken_once_and_a_reload_makes_no_second_token(staff: Visitor, page: str) -> None:
    assert (await staff.post(page, {"name": "robot", "kind": "query"})).status_code == 200
    again = await staff.post(page, {"name": "robot", "kind": "query"})
    assert (again.status_code, "revoke that first" in again.text) == (409, True)
    assert (await staff.text(page)).count(">robot</bdi>") == 1


async def test_sessions_of_a_course_are_ended_by_its_staff_only(
    world: World, staff: Visitor, ada: Visitor, page: str, visit: Visitors
) -> None:
    listed = await staff.text(page)
    row = next(part for part in listed.partition("Signed in now")[2].split("<tr>") if ">ada</bdi>" in part)
    end = re.search(rf'action="({page}/sessions/[0-9a-f]+/end)"', row)
    assert end is not None
    for stranger in (world.tokens["bob"],):
        async with visit(stranger) as other:
            assert (await other.post(end[1])).status_code == 404
    assert (await ada.get("/ui/me")).status_code == 200
    assert (await staff.post(end[1])).status_code == 303
    assert (await ada.get("/ui/me")).status_code == 303
    assert (await staff.post(end[1])).status_code == 404


async def test_the_audit_log_has_the_action_and_no_secret(
    world: World, staff: Visitor, page: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    secret = secret_in((await staff.post(page, {"name": "ana", "kind": "staff"})).text)
    records = await database["audit"].find({"course": world.course, "operation": "ui.addToken"}).to_list()
    assert [record["object"] for record in records] == [page]
    assert secret not in str(records)
    assert (await staff.post(page, {"name": "ana"})).status_code == 409
    assert await database["audit"].count_documents({"course": world.course, "operation": "ui.addToken"}) == 1


async def test_a_student_gets_a_link_by_hand(staff: Visitor, stranger: Visitor, page: str) -> None:
    made = await staff.post(page, {"for": "student", "kind": "link", "student": "bob", "days": ""})
    assert (made.status_code, made.headers["cache-control"]) == (200, "no-store")
    address = re.search(r"<code>(http://127\.0\.0\.1:\d+)(/s/bwl_[A-Za-z0-9_-]+)</code>", made.text)
    assert address, made.text
    assert address[1] == str(staff.http.base_url).rstrip("/")
    assert "Nothing has been changed" not in made.text  # its own record is not written yet
    assert "signs you in" in await stranger.text(address[2])  # an operator's link has no submissions
    assert (await stranger.post(address[2])).status_code == 303
    assert ">bob</bdi>" in await stranger.text("/ui/me")
    assert address[2] not in await staff.text(page)
    unknown = await staff.post(page, {"for": "student", "kind": "link", "student": "nobody"})
    assert (unknown.status_code, "nobody is in no roster of the course" in unknown.text) == (422, True)

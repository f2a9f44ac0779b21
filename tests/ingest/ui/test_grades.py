"""The grade book's pages: draft and published grades, changes of staff with their reasons, and files."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from classes import Class, HandIn
from graded import REPORTED, World, results
from harness import Client, token_of
from visitors import OWN, Visitor

from broadway.connections import Connections
from tests.ingest.ui.conftest import Visitors

DUE = datetime(2026, 11, 20, 22, 59, tzinfo=UTC)
SURE = {"sure": "yes"}


@pytest.fixture
async def group(opened: Connections, course: str) -> Class:
    made = Class(opened.store, course)
    await made.prepare(["ada", "bob", "<i>cyd</i>"], {"points": 10})
    await made.hand_in(HandIn("ada", DUE, score="7"), HandIn("bob", DUE, score="4"))
    return made


@pytest.fixture
async def teacher(visit: Visitors, group: Class) -> AsyncIterator[Visitor]:
    async with visit(token_of(group.course)) as visitor:
        yield visitor


@pytest.fixture
def book(group: Class) -> str:
    return f"/ui/c/{group.course}/a/mp1/grades"


def hidden(text: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', text)
    assert found is not None, name
    return found[1]


async def publish(visitor: Visitor, book: str, **more: str) -> Any:
    text = await visitor.text(book)
    form = {"based_on": hidden(text, "based_on"), "key": hidden(text, "key"), **SURE, **more}
    return await visitor.post(f"{book}/publish", form)


async def student(client: Client, course: str, name: str) -> str:
    headers = {"Authorization": f"Bearer {token_of(course)}"}
    made = await client.http.post(f"/api/v2/courses/{course}/student-tokens", json={"student": name}, headers=headers)
    token: str = made.json()["token"]
    return token


async def test_staff_publish_and_a_student_reads_the_grade(
    teacher: Visitor, book: str, group: Class, client: Client, visit: Visitors
) -> None:
    page = await teacher.text(book)
    assert "Nothing is published yet" in page
    assert "7 of 10" in page
    assert "&lt;i&gt;cyd&lt;/i&gt;" in page
    async with visit(await student(client, group.course, "ada")) as ada:
        assert "Grade: " not in await ada.text("/ui/me/a/mp1")
        assert (await publish(teacher, book, note="Well <b>done</b>", reason="for staff alone")).status_code == 303
        home, own = await ada.text("/ui/me"), await ada.text("/ui/me/a/mp1")
        assert "7 of 10" in home
        assert "Grade: 7 of 10" in own
        assert "Tests: 7 of 10 points." in own
        assert "Well &lt;b&gt;done&lt;/b&gt;" in own
        assert "for staff alone" not in own
    assert "Nothing has changed since version 1" in await teacher.text(book)


async def test_a_publication_on_another_version_is_refused_in_words(teacher: Visitor, book: str) -> None:
    earlier = await teacher.text(book)
    await publish(teacher, book)
    form = {"based_on": hidden(earlier, "based_on"), "key": hidden(earlier, "key"), **SURE}
    refused = await teacher.post(f"{book}/publish", form, Referer=f"{teacher.http.base_url}{book}?find=a")
    assert (refused.status_code, "Not possible now" in refused.text) == (409, True)
    assert "version 1 is published, not version 0" in refused.text.lower()
    assert f'href="{book}?find=a"' in refused.text
    repeated = {**form, "key": ""}
    assert (await teacher.post(f"{book}/publish", repeated)).status_code == 409
    unsure = {"based_on": "1"}
    assert (await teacher.post(f"{book}/publish", unsure)).status_code == 422
    assert (await teacher.post(f"{book}/publish", {"based_on": "x", **SURE})).status_code == 400


async def test_an_adjustment_is_in_the_draft_with_its_author_until_it_is_withdrawn(teacher: Visitor, book: str) -> None:
    await publish(teacher, book)
    ada = f"{book}/s/ada"
    page = await teacher.text(ada)
    assert "Nothing is adjusted" in page
    form = {"kind": "points", "points": "1.5", "reason": "a <b>good</b> idea", "key": hidden(page, "key")}
    for _ in range(2):  # the second one is a repetition
        assert (await teacher.post(f"{ada}/adjust", form)).status_code == 303
    page = await teacher.text(ada)
    assert page.count("+1.5 points") == 1
    assert "a &lt;b&gt;good&lt;/b&gt; idea" in page
    assert "8.5 of 10" in page
    assert "The student sees 7 of 10, of version 1." in page
    changed = await teacher.text(f"{book}?changed=yes")
    assert "1 student changed since version 1" in changed
    assert "/s/bob" not in changed
    for wrong in ({"points": "x"}, {"points": "1e9"}, {"reason": ""}, {"kind": "excused"}, {"kind": "nothing"}):
        assert (await teacher.post(f"{ada}/adjust", form | wrong)).status_code == 400, wrong
    (identity,) = re.findall(r"/adjustments/(\w+)/withdraw", page)
    withdraw = f"{ada}/adjustments/{identity}/withdraw"
    assert (await teacher.post(withdraw, {"reason": "a mistake"})).status_code == 303
    page = await teacher.text(ada)
    assert "a mistake" in page
    assert "7 of 10" in page
    assert (await teacher.post(withdraw)).status_code == 404
    assert (await teacher.get(f"{book}/s/nobody")).status_code == 404


async def test_an_earlier_version_is_published_again_and_grades_are_taken_back(teacher: Visitor, book: str) -> None:
    await publish(teacher, book, reason="the first")
    await teacher.post(f"{book}/s/ada/adjust", {"kind": "final", "points": "2", "reason": "r"})
    await publish(teacher, book)
    versions = await teacher.text(f"{book}/versions")
    assert "Reason: the first" in versions
    assert "7 of 10" in await teacher.text(f"{book}?version=1")
    assert (await teacher.post(f"{book}/undo", {"based_on": "2", "to": "1"})).status_code == 422
    assert (await teacher.post(f"{book}/undo", {"based_on": "2", "to": "1", **SURE})).status_code == 303
    assert "the grades of version 1 again" in await teacher.text(f"{book}/versions")
    assert (await teacher.post(f"{book}/undo", {"based_on": "3", "to": "0", **SURE})).status_code == 303
    assert "students see no grades" in await teacher.text(book)
    assert (await teacher.get(f"{book}?version=9")).status_code == 404


async def test_grades_are_exported_and_merged_as_files(teacher: Visitor, book: str) -> None:
    page = await teacher.text(book)
    links = re.findall(r'href="([^"]*/export[^"]*)"', page)
    assert len(links) == 6
    for link in links:
        file = await teacher.get(link.replace("&amp;", "&"))
        assert file.headers["content-disposition"].startswith("attachment"), link
        assert "access-control-allow-origin" not in file.headers
    sheet = b"Username,mp1\r\nada,\r\nzoe,1\r\n"
    form = {"version": "draft", "column": "mp1", "key": "Username=student"}
    given = {"file": ("class.csv", sheet, "text/csv")}
    merged = await teacher.http.post(f"{book}/merge", data=form, files=given, headers=OWN)
    assert (merged.status_code, merged.content) == (200, b"Username,mp1\r\nada,7\r\nzoe,1\r\n"), merged.text
    more = {**form, "answer": "unmatched"}
    unmatched = await teacher.http.post(f"{book}/merge", data=more, files=given, headers=OWN)
    assert "zoe" in unmatched.text
    for wrong in ({"column": ""}, {"column": "nothing"}, {"version": "x"}):
        refused = await teacher.http.post(f"{book}/merge", data=form | wrong, files=given, headers=OWN)
        assert (refused.status_code in (400, 422), "Not accepted" in refused.text) == (True, True), wrong


async def test_the_page_of_the_result_that_counts_shows_the_published_grade(
    world: World, staff: Visitor, ada: Visitor
) -> None:
    files = {"files": ("main.c", b"int main(void) { return 0; }\n")}
    handed_in = await ada.http.post("/ui/me/a/mp1", files=files, headers=OWN)
    world.jobs["ada"] = handed_in.headers["location"].rpartition("/")[2]
    await world.finish("ada", results(REPORTED))
    job, book = f"/ui/j/{world.jobs['ada']}", f"/ui/c/{world.course}/a/mp1/grades"
    assert 'id="grade"' not in await ada.text(job)
    await publish(staff, book, note="read this")
    for page in (await ada.text(job), await staff.text(f"{job}?view=student")):
        assert 'id="grade"' in page
        assert "read this" in page
    assert (await ada.get(f"/ui/j/{world.jobs['bob']}")).status_code == 404
    assert (await ada.get(book)).status_code == 404

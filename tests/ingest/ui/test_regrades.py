"""The pages of regrades: start, compare, publish with a reason, and discard."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from secrets import token_hex
from typing import Any

import pytest
from classes import CONFIG, Class, HandIn
from harness import token_of
from regrading import ready
from visitors import OWN, Visitor

from broadway.connections import Connections
from broadway.domain.comparison import Comparison, Flip, grouped
from broadway.domain.grade import Grade, GradeStatus
from broadway.domain.grade_book import BookEntry
from broadway.domain.job import Outcome
from broadway.domain.regrade import Regrade, RegradeOrder
from broadway.domain.regrade_diff import Diff, Row
from broadway.domain.regrade_terms import Category, RegradeState, Select
from broadway.domain.report import Status
from broadway.domain.run import Run, RunState
from broadway.ingest.reads.regrades import Progress
from broadway.ingest.ui import regrades
from broadway.ingest.ui.regrades import RegradePage
from broadway.ingest.ui.templating import rendered
from tests.ingest.ui.conftest import Visitors

NOW = datetime(2026, 11, 20, tzinfo=UTC)
HOSTILE = "<b>overflow</b>"
SCORES = {"ada": "7", "bob": "4", "cyd": "10"}
AGAIN = {"ada": "9", "bob": "2", "cyd": "10"}


@pytest.fixture
async def group(opened: Connections, course: str) -> Class:
    made = Class(opened.store, course)
    await made.prepare(SCORES, {"points": 10})
    run, given = token_hex(12), [HandIn(name, NOW, score=score) for name, score in SCORES.items()]
    await made.hand_in(*given, run=run)
    envs = [{"BROADWAY_STUDENT": each.student, "BROADWAY_SUBMITTED_AT": NOW.isoformat()} for each in given]
    assert await made.store.runs.insert(Run(run, course, "mp1", RunState.FINISHED, NOW, CONFIG, students_env=envs))
    return made


@pytest.fixture
async def teacher(visit: Visitors, group: Class) -> AsyncIterator[Visitor]:
    async with visit(token_of(group.course)) as visitor:
        yield visitor


async def started_regrade(teacher: Visitor, course: str) -> str:
    """Start a regrade by the form, twice as by a second click, and return its address."""
    page = await teacher.text(f"/ui/c/{course}/regrades?assignment=mp1")
    key = re.search(r'name="key" value="(\w+)"', page)
    assert key is not None
    form = {"assignment": "mp1", "select": "latest", "reason": "a <i>wrong</i> test", "key": key[1]}
    answers = [await teacher.post(f"/ui/c/{course}/regrades", form) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {303}
    (address,) = {answer.headers["location"] for answer in answers}
    return str(address)


async def end(group: Class, address: str, outcomes: dict[str, HandIn]) -> None:
    """Let the jobs of a regrade end, and the regrade be ready."""
    await ready(group, address.rpartition("/")[2], outcomes)


async def test_staff_regrade_compare_and_publish_only_what_raises(teacher: Visitor, group: Class) -> None:
    address = await started_regrade(teacher, group.course)
    page = await teacher.text(address)
    assert f'data-live="{address}/live"' in page
    assert "a &lt;i&gt;wrong&lt;/i&gt; test" in page
    await end(group, address, {name: HandIn(name, NOW, score=score) for name, score in AGAIN.items()})

    page = await teacher.text(address)
    assert "data-live" not in page
    assert re.search(r"7 of 10 → 9 of 10", page)
    assert page.index("/grades/s/bob") < page.index("/grades/s/ada") < page.index("/grades/s/cyd")
    only = await teacher.text(f"{address}?category=up")
    assert ("/grades/s/ada" in only, "/grades/s/bob" in only) == (True, False)
    form = {"publish": "raise", "key": "k"}
    assert (await teacher.post(f"{address}/publish", form)).status_code == 400  # the students get no reason
    assert (await teacher.post(f"{address}/publish", {**form, "note": "a test was wrong"})).status_code == 303
    page = await teacher.text(address)
    assert "as version 1" in page
    assert "a test was wrong" in page
    book = await teacher.text(f"/ui/c/{group.course}/a/mp1/grades?version=1")
    assert ("9 of 10" in book, "4 of 10" in book, "2 of 10" in book) == (True, True, False)
    assert (await teacher.post(f"{address}/discard", {"sure": "yes"})).status_code == 409


async def test_chosen_students_get_the_new_grade_and_errors_on_our_side_block(teacher: Visitor, group: Class) -> None:
    address = await started_regrade(teacher, group.course)
    outcomes = {name: HandIn(name, NOW, score=score) for name, score in AGAIN.items()}
    outcomes["cyd"] = HandIn("cyd", NOW, outcome=Outcome.INFRASTRUCTURE_ERROR, score=None)
    await end(group, address, outcomes)
    page = await teacher.text(address)
    assert "Something failed on our side with the submissions of 1 student" in page
    assert f'action="{address}/refresh"' in page
    form = {"publish": "chosen", "student": "bob", "note": "n", "key": "k"}
    refused = await teacher.post(f"{address}/publish", form)
    assert (refused.status_code, "Not possible now" in refused.text) == (409, True)
    assert (await teacher.post(f"{address}/publish", {**form, "keep_old": "yes"})).status_code == 303
    book = await teacher.text(f"/ui/c/{group.course}/a/mp1/grades?version=1")
    assert [f"{points} of 10" in book for points in ("7", "2", "9")] == [True, True, False]


async def test_ticks_stay_while_staff_go_through_the_pages_without_script(
    teacher: Visitor, group: Class, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regrades, "ROWS", 1)
    monkeypatch.setattr(regrades, "pages_of", lambda count: count)
    address = await started_regrade(teacher, group.course)
    await end(group, address, {name: HandIn(name, NOW, score=score) for name, score in AGAIN.items()})
    assert re.search(r'<button form="publish" formaction="[^"]*/choose\?page=2"', await teacher.text(address))
    form = {"publish": "chosen", "note": "a <b>reason</b>", "key": "k", "student": "bob"}
    second = (await teacher.post(f"{address}/choose?page=2", form)).text
    assert '<input type="hidden" name="student" value="bob">' in second
    assert "1 student on other pages is ticked" in second
    assert ("a &lt;b&gt;reason&lt;/b&gt;</textarea>" in second, 'value="chosen" checked' in second) == (True, True)
    assert 'name="key" value="k"' in second
    http = teacher.http
    both = await http.post(f"{address}/choose?page=1", data={**form, "student": ["ada", "bob"]}, headers=OWN)
    assert re.search(r'value="bob" form="publish" checked', both.text)
    assert '<input type="hidden" name="student" value="ada">' in both.text
    unknown = await teacher.post(f"{address}/choose", {"student": "nobody"})
    assert "nobody" not in unknown.text
    assert "ui.choose" not in await teacher.text(f"/ui/c/{group.course}/audit")
    published = await http.post(f"{address}/publish", data={**form, "student": ["ada", "bob"]}, headers=OWN)
    assert published.status_code == 303, published.text
    book = await teacher.text(f"/ui/c/{group.course}/a/mp1/grades?version=1")
    assert [f"{points} of 10" in book for points in ("9", "2")] == [True, True]


async def test_a_regrade_is_discarded_after_a_second_question(teacher: Visitor, group: Class) -> None:
    address = await started_regrade(teacher, group.course)
    assert (await teacher.post(f"{address}/discard")).status_code == 422
    assert (await teacher.post(f"{address}/discard", {"sure": "yes"})).status_code == 303
    assert "The grades are as they were" in await teacher.text(address)
    listed = await teacher.text(f"/ui/c/{group.course}/regrades")
    assert f'href="{address}"' in listed
    wrong = {"assignment": "nothing", "key": "x"}
    assert (await teacher.post(f"/ui/c/{group.course}/regrades", wrong)).status_code == 422


def shown(**changes: Any) -> str:
    """Return the part of a page with one row of each kind."""

    def entry(student: str, points: str, job: str) -> BookEntry:
        return BookEntry(Grade(student, GradeStatus.GRADED, Decimal(points), Decimal(10)), job, 1, f"e-{job}")

    flip = Flip(HOSTILE, Status.FAILED, Status.PASSED)
    rows = [
        Row("ada", Comparison(Category.INFRA_ERROR), entry("ada", "7", "j1"), entry("ada", "0", "j2")),
        Row("bob", Comparison(Category.UP, (flip,) * 7, 9), entry("bob", "4", "j3"), entry("bob", "6", "j4")),
    ]
    counts = {Category.INFRA_ERROR: 1, Category.UP: 1}
    groups = grouped([("bob", (flip,)), ("cyd", (flip,))])
    diff = Diff(0, rows, groups, counts, {}, control=5, unstable=("s1",))
    regrade = Regrade("r1", "cs1", "mp1", RegradeOrder(Select.ALL), {}, "d", NOW, state=RegradeState.READY)
    view = RegradePage("cs1", regrade, Progress(2, 2), diff, None, 1)
    return rendered("_regrade.html", view=replace(view, **changes), key="k")


def test_tests_that_flipped_are_grouped_and_both_logs_have_links() -> None:
    html = shown()
    assert "<strong>2 students</strong>: <bdi>&lt;b&gt;overflow&lt;/b&gt; failed → passed</bdi>" in html
    assert "and 4 more" in html
    assert all(f'href="/ui/j/{job}#log"' in html for job in ("j1", "j2", "j3", "j4"))
    assert "5 submissions graded with the old config again, 1 with another result" in html
    assert "7 of 10 → \N{EN DASH}" in html  # an error on our side says nothing
    assert HOSTILE not in html

"""The page of an assignment: its rules, stages, extensions and runs."""

import re
from collections.abc import AsyncIterator

import pytest
from classes import Class
from graded import World
from harness import token_of
from visitors import Visitor

from broadway.connections import Connections
from tests.ingest.ui.conftest import Visitors


async def test_an_assignment_shows_its_stages_and_starts_a_run(world: World, staff: Visitor) -> None:
    base = f"/ui/c/{world.course}/a/mp1"
    page = await staff.text(base)
    assert "2 entries in the roster" in page
    assert f'href="{base}/roster#students"' in page
    assert "There is no due time." in page
    assert "<code>exit 0</code>" in page
    assert f'href="/ui/c/{world.course}/r/{world.run}"' in page
    key = re.search(r'name="key" value="(\w+)"', page)
    assert key is not None
    assert (await staff.post(f"{base}/start")).status_code == 422
    form = {"key": key[1], "sure": "yes"}
    answers = [await staff.post(f"{base}/start", form) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {303}
    (address,) = {answer.headers["location"] for answer in answers}  # one run
    assert address != f"/ui/c/{world.course}/r/{world.run}"
    assert (await staff.get(f"/ui/c/{world.course}/a/nothing")).status_code == 404


@pytest.fixture
async def group(opened: Connections, course: str) -> Class:
    made = Class(opened.store, course)
    policy = {"zone": "Europe/Berlin", "deadline": {"due": "2026-12-04T23:59"}}
    await made.prepare(["ada", "bob"], {"points": 10, "policy": policy})
    return made


@pytest.fixture
async def teacher(visit: Visitors, group: Class) -> AsyncIterator[Visitor]:
    async with visit(token_of(group.course)) as visitor:
        yield visitor


async def test_an_extension_is_added_and_withdrawn(teacher: Visitor, group: Class) -> None:
    base = f"/ui/c/{group.course}/a/mp1"
    page = await teacher.text(base)
    assert "Due 4 Dec 2026, 23:59 CET." in page
    assert "All students have the same times." in page
    form = {"target": "student", "name": "ada", "add_days": "2", "due": "", "reason": "<b>ill</b>"}
    for _ in range(2):
        assert (await teacher.post(f"{base}/extensions", form)).status_code == 303
    page = await teacher.text(base)
    assert page.count("+ 2 days") == 1
    assert "&lt;b&gt;ill&lt;/b&gt;" in page
    assert "in force" in await teacher.text(f"{base}/grades/s/ada")
    for wrong in ({"name": "eve"}, {"add_days": "x"}, {"add_days": ""}, {"due": "tomorrow"}, {"target": "all"}):
        assert (await teacher.post(f"{base}/extensions", form | wrong)).status_code in (400, 422), wrong
    given = {"target": "student", "name": "ada", "reason": "well again"}
    assert (await teacher.post(f"{base}/extensions/withdraw", given)).status_code == 303
    assert "All students have the same times." in await teacher.text(base)
    assert "well again" in await teacher.text(f"{base}/grades/s/ada")
    assert (await teacher.post(f"{base}/extensions/withdraw", given)).status_code == 404

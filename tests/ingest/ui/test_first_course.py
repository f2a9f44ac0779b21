"""From an operator's first page to a run, with forms only: a course, its token, an assignment, a roster."""

import re
from csv import DictReader
from html import unescape
from json import dumps
from secrets import token_hex
from typing import Any

import pytest
from graded import World
from harness import stage
from pymongo.asynchronous.database import AsyncDatabase
from visitors import OWN, Visitor

from broadway.domain.assignment import AssignmentConfig
from tests.ingest.ui.conftest import Visitors

CSV = b"student,repository\nada,cs/ada\nbob,cs/bob\n"


async def send_file(visitor: Visitor, path: str, content: bytes, **fields: str) -> Any:
    return await visitor.http.post(path, data=fields, files={"file": ("x", content)}, headers=OWN)


async def test_an_operator_is_led_from_a_course_to_a_run(visit: Visitors) -> None:
    course = f"new-{token_hex(4)}"
    async with visit("operator-token") as operator:
        assert "/ui/ops/courses" in await operator.text("/ui/ops")
        form = {"id": course, "name": "ana", "weight": "2,5", "concurrency": "8", "pool": "default"}
        made = await operator.post("/ui/ops/courses", form)
        assert (made.status_code, made.headers["cache-control"]) == (200, "no-store"), made.text
        for words in ("What to do next", f"Go on as staff of {course}", f"/ui/c/{course}/tokens"):
            assert words in made.text
        given = dict(re.findall(r'name="(token|next)" value="([^"]+)"', made.text))
        assert given["token"] not in await operator.text(f"/ui/c/{course}/tokens")
        assert (await operator.get(f"/ui/c/{course}")).status_code == 404  # staff only

        gone_on = await operator.post("/ui/sign-in", given)
        assert (gone_on.status_code, gone_on.headers["location"]) == (303, f"/ui/c/{course}")
        assert (await operator.get("/ui/ops")).status_code == 404
        staff = operator
        assert f"/ui/c/{course}/new" in await staff.text(f"/ui/c/{course}")
        form_page = await staff.text(f"/ui/c/{course}/new")
        example = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", form_page, re.DOTALL)
        assert example is not None
        text = unescape(example[1])
        stages = AssignmentConfig.model_validate_json(text).student_pipeline
        assert [each.has_network for each in stages] == [False]  # a network would need an engine
        put = await staff.post(f"/ui/c/{course}/new", {"name": "mp1", "text": text})
        assert (put.status_code, put.headers["location"]) == (303, f"/ui/c/{course}/a/mp1"), put.text
        assert f"/ui/c/{course}/a/mp1/roster" in await staff.text(f"/ui/c/{course}/a/mp1")
        stored = await send_file(staff, f"/ui/c/{course}/a/mp1/roster", CSV)
        assert (stored.status_code, stored.headers["location"]) == (303, f"/ui/c/{course}/a/mp1"), stored.text
        assert "Start a run for all 2" in await staff.text(f"/ui/c/{course}/a/mp1")
        started = await staff.post(f"/ui/c/{course}/a/mp1/start", {"sure": "yes", "key": token_hex(8)})
        assert started.headers["location"].startswith(f"/ui/c/{course}/r/"), started.text


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"id": "a b"}, "id: should"),
        ({}, "id: is missing"),
        ({"id": "x", "weight": "heavy"}, "weight: expected a number"),
        ({"id": "x", "weight": "nan"}, "weight"),
        ({"id": "x", "weight": "1000"}, "weight"),
        ({"id": "x", "concurrency": "many"}, "concurrency: expected a number"),
        ({"id": "x", "name": "\n"}, "name: should have"),
        ({"id": "x", "pool": "../"}, "pool"),
    ],
    ids=["blank", "nothing", "no number", "nan", "too heavy", "no count", "no name", "no pool"],
)
async def test_a_refused_course_is_shown_again_and_not_made(
    visit: Visitors, form: dict[str, str], words: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    async with visit("operator-token") as operator:
        refused = await operator.post("/ui/ops/courses", {"name": "ana", **form})
        assert refused.status_code in (400, 422)
        assert words in refused.text, refused.text
    assert await database["course"].find_one({"_id": form.get("id", "x")}) is None


async def test_a_course_is_made_once(visit: Visitors, kept_world: World) -> None:
    async with visit("operator-token") as operator:
        again = await operator.post("/ui/ops/courses", {"id": kept_world.course, "name": "ana"})
        assert (again.status_code, "there is a course" in again.text.lower()) == (409, True)


ONE = {"student_pipeline": [stage("exit", "0")]}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("mp2", "{", "line 1, column 2"),
        ("mp2", "[]", "expected a JSON object"),
        ("mp2", "{}", "student_pipeline: is missing"),
        ("mp2", dumps(ONE | {"more": 1}), "more"),
        ("mp2", dumps({"student_pipeline": [{"image": 7}]}), "student_pipeline.0.image"),
        ("mp2", dumps(ONE | {"settings": {"policy": {"zone": "Moon"}}}), "settings.policy.zone"),
        ("m p", dumps(ONE), "name: expected letters"),
        ("", dumps(ONE), "name: expected letters"),
        ("mp2", dumps({"student_pipeline": [stage("exit", "0")] * 99}), "student_pipeline"),
    ],
    ids=["no JSON", "list", "empty", "unknown key", "type", "settings", "name", "no name", "limit"],
)
async def test_a_refused_assignment_is_shown_again_with_its_mistakes(
    kept_staff: Visitor, kept_world: World, name: str, text: str, words: str
) -> None:
    path = f"/ui/c/{kept_world.course}/new"
    for answer in (
        await kept_staff.post(path, {"name": name, "text": text}),
        await send_file(kept_staff, path, text.encode(), name=name),
    ):
        assert answer.status_code in (400, 422), answer.text
        assert words in answer.text, answer.text
        assert 'aria-describedby="problems"' in answer.text
    assert (await kept_world.ask("assignments")).json()["items"] == [{"id": "mp1"}]


async def test_a_file_brings_stages_and_settings(staff: Visitor, world: World) -> None:
    content = dumps(ONE | {"settings": {"policy": {"deadline": {"due": "2030-05-01T12:00"}}}}).encode()
    put = await send_file(staff, f"/ui/c/{world.course}/new", b"\xef\xbb\xbf" + content, name="mp2")
    assert put.headers["location"] == f"/ui/c/{world.course}/a/mp2"
    assert "2030" in await staff.text(f"/ui/c/{world.course}/a/mp2")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"name\nada\n", "expected a column named student"),
        (b"student\nada\nada\n", "listed twice"),
        (b"student,x\nada\n", "line 2: expected 2 columns"),
        (b"\x00" * 100, "zero byte"),
        (b'{"students": [{}]}', "students.0.student: is missing"),
        (b"student\n<script>x</script>\n<script>x</script>", "&lt;script&gt;"),
    ],
    ids=["empty", "no column", "twice", "columns", "binary", "JSON", "markup"],
)
async def test_a_refused_roster_is_shown_again_with_its_mistake(
    kept_staff: Visitor, kept_world: World, content: bytes, words: str
) -> None:
    path = f"/ui/c/{kept_world.course}/a/mp1/roster"
    refused = await send_file(kept_staff, path, content)
    assert refused.status_code in (400, 422)
    assert words in refused.text, refused.text
    assert "<script>x" not in refused.text
    assert len((await kept_world.ask("assignments/mp1/roster")).json()["students"]) == 2


async def test_a_roster_needs_its_assignment(kept_staff: Visitor, kept_world: World) -> None:
    path = f"/ui/c/{kept_world.course}/a/none/roster"
    assert (await kept_staff.get(path)).status_code == 404
    assert (await send_file(kept_staff, path, CSV)).status_code == 404


async def test_a_roster_is_typed(staff: Visitor, world: World) -> None:
    path = f"/ui/c/{world.course}/a/mp1/roster"
    refused = await staff.post(path, {"text": "student\r\ncyd\r\ncyd"})
    assert (refused.status_code, "listed twice" in refused.text) == (422, True)
    assert "cyd</textarea>" in refused.text
    stored = await staff.post(path, {"text": "student\r\ncyd\r\n"})
    assert (stored.status_code, stored.headers["location"]) == (303, f"/ui/c/{world.course}/a/mp1"), stored.text
    assert [each["student"] for each in (await world.ask("assignments/mp1/roster")).json()["students"]] == ["cyd"]


async def test_all_students_of_a_roster_get_links_in_a_file(staff: Visitor, stranger: Visitor, world: World) -> None:
    base = f"/ui/c/{world.course}/a/mp1"
    assert f'action="{base}/links"' in await staff.text(f"{base}/roster")
    made = await staff.post(f"{base}/links")
    assert (made.status_code, made.headers["cache-control"]) == (200, "no-store"), made.text
    assert made.headers["content-disposition"].startswith("attachment")
    ada, bob = DictReader(made.text.splitlines())
    assert (ada["student"], bob["student"]) == ("ada", "bob")
    address = str(staff.http.base_url).rstrip("/")
    assert ada["link"].startswith(f"{address}/s/bwl_")
    assert (await stranger.post(ada["link"].removeprefix(address))).status_code == 303
    assert ">ada</bdi>" in await stranger.text("/ui/me")

    again = await staff.post(f"{base}/links", {"replace": "yes"})
    assert again.status_code == 200
    assert (await stranger.get("/ui/me")).status_code == 303  # the session has ended with its link
    assert (await stranger.post(bob["link"].removeprefix(address))).status_code == 404


async def test_links_need_a_roster(staff: Visitor, world: World) -> None:
    await world.client.register(world.course, "mp2", students=[stage("exit", "0")])
    refused = await staff.post(f"/ui/c/{world.course}/a/mp2/links")
    assert (refused.status_code, "store it first" in refused.text) == (404, True)

"""Regrades while processes die between any two effects: each ends as ordered, and what is published stays as it is."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from faults.report import Report
from faults.servers import Servers
from faults.world import COURSES, World
from harness import IS_WHOLE, stage, token_of, until

from broadway.runtime.crashpoints import Point

COURSE = COURSES[0]
BASE = f"/api/v2/courses/{COURSE}"
MODES = ("exit", "raise", "hang", "cancel")
OF_REGRADES = [point for point in Point if point.value.startswith("regrade.")]
OF_DISCARDING = (Point.REGRADE_DISCARDED, Point.REGRADE_CLEANED)
PAIRS = [(point, mode) for point in OF_REGRADES for mode in MODES]
SELECTED = PAIRS if IS_WHOLE else [(Point.REGRADE_PART_BEGUN, "exit"), (Point.REGRADE_PUBLISHED, "exit")]
STUDENTS = ("ada", "bob", "cyd")
RESULTS = {"format": "tap", "path": "submission/results"}
NOTE = "The test was wrong."


@pytest.fixture(scope="module")
async def world(shared: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with World.open(
        tmp_path_factory.mktemp("world"), shared=shared, graders=2, slots=2, crashes=True, joining=True
    ) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("print", "first", results=RESULTS)]})
        roster = {"students": [{"student": student} for student in STUDENTS]}
        assert (await world.ask("PUT", f"{BASE}/assignments/mp1/roster", COURSE, roster)).is_success
        for student in STUDENTS:
            await _hand_in(world, student)

        async def are_graded() -> bool:
            return set((await _points(world, "draft")).values()) == {"1"}

        await until(are_graded, within=120)
        await _publish_draft(world)
        yield world


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("point", "mode"), SELECTED, ids=str)
async def test_a_regrade_survives_a_crash(world: World, point: Point, mode: str) -> None:
    trap = world.directory / "crash"
    with contextlib.suppress(FileNotFoundError):
        trap.with_suffix(".taken").unlink()
    await world.register(COURSE, "mp1", {"student_pipeline": [stage("print", f"{point} {mode}", results=RESULTS)]})
    grades, versions = await _points(world, "published"), await _versions(world)
    trap.write_text(f"{point.value} {mode}")
    key = f"{point.value} {mode}"

    regrade = await _order(world, "assignments/mp1/regrades", {"select": "all"}, key)
    ready = await _in_state(world, regrade["id"], "ready")
    assert (ready["counts"], ready["jobs"]) == ({"same": len(STUDENTS)}, len(STUDENTS))
    assert (await _points(world, "published"), await _versions(world)) == (grades, versions)
    if point in OF_DISCARDING:
        await _order(world, f"regrades/{regrade['id']}/discard", None, key, done="is discarded")
        await _in_state(world, regrade["id"], "discarded")
        await until(lambda: _is_clean(world, regrade["id"]), within=60)
        assert await _versions(world) == versions
    else:
        body = {"publish": "all", "note": NOTE}
        await _order(world, f"regrades/{regrade['id']}/publish", body, key, done="published as version")
        published = await _in_state(world, regrade["id"], "published")
        assert (await _versions(world), published["version"]) == (versions + 1, versions + 1)

    await until(lambda: trap.with_suffix(".taken").exists(), within=60)
    assert await _points(world, "published") == grades
    await until(world.client.is_ready)


async def test_each_regrade_has_graded_each_submission_once(world: World, report: Report) -> None:
    """Check all regrades, after all other tests of this module."""
    for regrade in await world.database["regrade"].find({}).to_list():
        runs = await world.database["grading_run"].find({"regrade": regrade["_id"]}).to_list()
        query = {"handed_in.regrade": regrade["_id"]}
        jobs = await world.database["grading_job"].find(query).to_list()
        assert {run["state"] for run in runs} == {"grading run is complete"}
        assert sorted(job["handed_in"]["student"] for job in jobs) == sorted(STUDENTS)
        assert {job["outcome"] for job in jobs} == {"succeeded"}
        ends = await world.database["work_result"].find({"regrade": regrade["_id"]}).to_list()
        kept = {str(each["_id"]) async for each in world.database["job_report"].find({}, {"_id": 1})}
        expected = len(STUDENTS) if regrade["state"] == "published" else 0
        assert len({each["execution"] for each in ends} & kept) == expected
    report.row(
        "regrades",
        f"a crash at {len(OF_REGRADES)} named points, {len(SELECTED)} pairs of point and mode ({', '.join(MODES)})",
        f"{len(SELECTED)} regrades ended as ordered, and graded each submission once",
        "0 violations",
    )


async def _hand_in(world: World, student: str) -> None:
    headers = {"Authorization": f"Bearer {token_of(COURSE)}"}
    files = {"files": ("results", b"1..2\nok 1 - a\nnot ok 2 - b\n")}
    path = f"{BASE}/assignments/mp1/submissions"
    made = await world.client.http.post(path, params={"student": student}, files=files, headers=headers)
    assert made.is_success, made.text


async def _publish_draft(world: World) -> None:
    answer = await world.ask("POST", f"{BASE}/assignments/mp1/grades/publish", COURSE, {"based_on": 0})
    assert answer.is_success, answer.text


async def _order(world: World, path: str, body: Any, key: str, *, done: str = "") -> dict[str, Any]:
    """Give an order until it is answered; a refusal with the text ``done`` says that it is carried out."""
    answer: httpx2.Response = await world.ask("POST", f"{BASE}/{path}", COURSE, body, **{"Idempotency-Key": key})
    assert answer.is_success or (done and done in answer.text), answer.text
    return dict(answer.json())


async def _in_state(world: World, regrade: str, state: str) -> dict[str, Any]:
    async def found() -> dict[str, Any]:
        view = dict((await world.ask("GET", f"{BASE}/regrades/{regrade}", COURSE)).json())
        return view if view["state"] == state else {}

    view: dict[str, Any] = await until(found, within=120)
    return view


async def _points(world: World, version: str) -> dict[str, str]:
    answer = await world.ask("GET", f"{BASE}/assignments/mp1/grades?version={version}", COURSE)
    return {each["student"]: each["points"] for each in answer.json()["items"]}


async def _versions(world: World) -> int:
    answer = await world.ask("GET", f"{BASE}/assignments/mp1/grades/versions?limit=500", COURSE)
    return len(answer.json()["items"])


async def _is_clean(world: World, regrade: str) -> bool:
    stored = await world.database["regrade"].find_one({"_id": regrade})
    return stored is not None and stored["clean_at"] is None

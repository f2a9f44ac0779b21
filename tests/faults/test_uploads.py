"""Uploads while processes die between any two effects: each accepted one is graded once, with its own files.

The artifacts of each job are stored before its outcome, and once for the attempt that counts. Each publication of the
grades makes one version.
"""

import contextlib
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import httpx2
import pytest
from faults.report import Report
from faults.servers import Servers
from faults.world import COURSES, World
from harness import IS_WHOLE, stage, token_of, until

from broadway.runtime.crashpoints import Point

COURSE = COURSES[0]
MODES = ("exit", "raise", "hang", "cancel")
OF_UPLOADS = [
    *(point for point in Point if point.value.startswith(("upload.", "artifacts."))),
    Point.GRADE_FILES_LAID_OUT,
    Point.GRADE_ARTIFACTS_COLLECTED,
    Point.WORK_ARTIFACTS_SENT,
]
OF_GRADES = [point for point in Point if point.value.startswith("grades.")]
PLOT = sha256(b"a plot").hexdigest()
STAGES = [stage("digests", "submission"), stage("write", "plot.png", "a plot", artifacts=["*.png"])]
PAIRS = [(point, mode) for point in OF_UPLOADS for mode in MODES]
SELECTED = PAIRS if IS_WHOLE else PAIRS[4::12]
PUBLISHED = [(point, mode) for number, point in enumerate(OF_GRADES) for mode in MODES[number:] + MODES[:number]]
PUBLICATIONS = PUBLISHED if IS_WHOLE else PUBLISHED[::4]


@pytest.fixture(scope="module")
async def world(shared: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with World.open(
        tmp_path_factory.mktemp("world"), shared=shared, graders=2, slots=2, crashes=True, joining=True
    ) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": STAGES})
        yield world


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("point", "mode"), SELECTED, ids=str)
async def test_an_upload_survives_a_crash(world: World, point: Point, mode: str) -> None:
    trap = world.directory / "crash"
    with contextlib.suppress(FileNotFoundError):
        trap.with_suffix(".taken").unlink()
    trap.write_text(f"{point.value} {mode}")

    made = await _hand_in(world, key=f"{point.value} {mode}")

    await until(lambda: trap.with_suffix(".taken").exists(), within=60)
    await world.are_complete([await _run_of(world, made)], within=120)
    await until(world.client.is_ready)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("point", "mode"), PUBLICATIONS, ids=str)
async def test_a_publication_survives_a_crash(world: World, point: Point, mode: str) -> None:
    trap, path = world.directory / "crash", f"/api/v2/courses/{COURSE}/assignments/mp1/grades"
    with contextlib.suppress(FileNotFoundError):
        trap.with_suffix(".taken").unlink()
    before = (await world.ask("GET", f"{path}/versions", COURSE)).json()["items"]
    published = before[0]["number"] if before else 0
    trap.write_text(f"{point.value} {mode}")

    key = {"Idempotency-Key": f"{point.value} {mode}"}
    answer = await world.ask("POST", f"{path}/publish", COURSE, {"based_on": published}, **key)

    assert answer.status_code == 200, answer.text
    assert trap.with_suffix(".taken").exists()
    after = (await world.ask("GET", f"{path}/versions", COURSE)).json()["items"]
    assert [each["number"] for each in after[1:]] == [each["number"] for each in before]
    assert (after[0]["number"], after[0]["based_on"], after[0]["is_published"]) == (
        answer.json()["number"],
        published,
        True,
    )


async def test_each_submission_has_one_run_with_its_files(world: World, report: Report) -> None:
    """Check all submissions, after all other tests of this module."""
    submissions = await world.database["submission"].find({}).to_list()
    runs = await world.database["grading_run"].find({}).to_list()
    jobs = await world.database["grading_job"].find({}).to_list()
    assert len(submissions) == len(runs) == len(jobs) == len(SELECTED)
    assert {job["outcome"] for job in jobs} == {"succeeded"}
    logs = [await _log(world, str(job["_id"])) for job in jobs]
    for each in submissions:
        (file,) = each["files"]
        assert sum(f"main.c:644:{file['sha256']}" in log for log in logs) == 1, each["_id"]
    assert await world.database["submission"].count_documents({"due_at": {"$type": "date"}}) == 0
    for job in jobs:
        path = f"/api/v2/courses/{COURSE}/jobs/{job['_id']}"
        attempts = (await world.ask("GET", path, COURSE)).json()["executions"]
        listed = (await world.ask("GET", f"{path}/artifacts", COURSE)).json()
        assert [listed["attempt"]] == [attempt["id"] for attempt in attempts if attempt["outcome"] == "succeeded"]
        assert [(file["path"], file["sha256"]) for file in listed["files"]] == [("plot.png", PLOT)]
        assert (await world.ask("GET", f"{path}/artifacts/plot.png", COURSE)).content == b"a plot"
    report.row(
        "uploads",
        f"a crash at {len(OF_UPLOADS)} named points, {len(SELECTED)} pairs of point and mode ({', '.join(MODES)})",
        f"{len(submissions)} of {len(SELECTED)} uploads were graded once, with their own files and artifacts",
        "0 violations",
    )


async def _hand_in(world: World, *, key: str) -> dict[str, Any]:
    """Hand in a file, and repeat the request until it is answered."""
    headers = {"Authorization": f"Bearer {token_of(COURSE)}", "Idempotency-Key": key}
    path = f"/api/v2/courses/{COURSE}/assignments/mp1/submissions"
    files = {"files": ("main.c", sha256(key.encode()).digest())}

    async def answer() -> dict[str, Any]:
        with contextlib.suppress(httpx2.TransportError):
            made = await world.client.http.post(path, params={"student": "ada"}, files=files, headers=headers)
            if made.is_success:
                return dict(made.json())
            assert made.status_code >= 500, made.text
        return {}

    return await until(answer, within=120)


async def _run_of(world: World, made: dict[str, Any]) -> str:
    """Return the run of a submission, which a sweep starts if the request could not."""

    async def run_id() -> str:
        answer = await world.ask("GET", f"/api/v2/courses/{COURSE}/submissions/{made['id']}", COURSE)
        return str(answer.json()["run_id"] or "")

    return await until(run_id, within=120)


async def _log(world: World, job_id: str) -> str:
    answer = await world.ask("GET", f"/api/v1/grading_job_log/{COURSE}/{job_id}", COURSE)
    return str(answer.json()["data"]["stdout"])

"""A crash at every named point, in every mode: the run still finishes, and each of its jobs has one outcome.

The first process that reaches the point crashes, and restarts as under a supervisor. ``make faults`` tests every pair
of point and mode, other sessions one mode of every seventh point.
"""

import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from faults.report import Report
from faults.servers import Servers
from faults.test_callbacks import OF_CALLBACKS
from faults.test_regrades import OF_REGRADES
from faults.test_uploads import OF_GRADES, OF_UPLOADS
from faults.world import COURSES, World
from harness import IS_WHOLE, stage, until
from mongo.test_migrations import OF_MIGRATIONS
from pushes import push, signature

from broadway.dispatcher.patience import PATIENCE
from broadway.mongo.students import INLINE
from broadway.runtime.crashpoints import Point

MODES = ("exit", "raise", "hang", "cancel")
OF_OPERATORS = (Point.LETTER_RERUN, Point.FORGET_USER_CLOSED)  # in the tests of the commands of operators
# In tests/ingest/commands.
OF_RETENTION = tuple(point for point in Point if point.value.startswith(("retention.", "deletion.")))
# These have tests of their own.
APART = (*OF_OPERATORS, *OF_UPLOADS, *OF_GRADES, *OF_REGRADES, *OF_CALLBACKS, *OF_RETENTION, *OF_MIGRATIONS)
POINTS = [point for point in Point if point not in APART]
PAIRS = [(point, mode) for number, point in enumerate(POINTS) for mode in MODES[number % 4 :] + MODES[: number % 4]]
SELECTED = PAIRS if IS_WHOLE else PAIRS[:: 4 * 7]
SLOTS = 2
QUICK, SLOW = "quick", "slow"
SECRET = "a-secret-of-this-hook"
STUDENTS = [f"{point.value}-{mode}" for point, mode in PAIRS if point.value.startswith("push.")]
BESIDE_RUN = {Point.SUBMIT_STUDENTS_STORED, Point.SUBMIT_UNSETTLED}  # only large runs reach them
SCORES = '{"scores": {"A": 1}}'
PHASES: dict[str, Any] = {
    "pre_processing_pipeline": [stage("exit", "0")],
    "post_processing_pipeline": [stage("exit", "0")],
}


@pytest.fixture(scope="module")
async def world(shared: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with World.open(
        tmp_path_factory.mktemp("world"), shared=shared, graders=2, slots=SLOTS, crashes=True
    ) as world:
        scored = stage("print", SCORES, results={"format": "autolab"})
        for course in COURSES:
            await world.register(course, QUICK, {"student_pipeline": [scored], **PHASES})
            await world.register(course, SLOW, {"student_pipeline": [stage("sleep", "2")], **PHASES})
            roster = [{"student": student, "repository": f"cs/{student}"} for student in STUDENTS]
            hook = {"assignment": QUICK, "secrets": [SECRET], "only_latest": True}
            for path, body in ((f"assignments/{QUICK}/roster", {"students": roster}), ("hooks/git", hook)):
                answer = await world.ask("PUT", f"/api/v2/courses/{course}/{path}", course, body)
                assert answer.status_code == 200, answer.text
        yield world


@pytest.fixture(scope="module")
def cancelled() -> set[str]:
    """The jobs with a requested cancellation."""
    return set()


@pytest.fixture(scope="module")
def pushed() -> set[str]:
    """The ids of the deliveries of pushes."""
    return set()


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("point", "mode"), SELECTED, ids=str)
async def test_a_run_survives_a_crash(
    world: World, point: Point, mode: str, cancelled: set[str], pushed: set[str]
) -> None:
    trap = world.directory / "crash"
    if point is Point.ORDER_STORED or point.value.startswith("order."):
        await rerun(world, trap, point, mode)
    elif point.value.startswith("push."):
        pushed.add(await deliver(world, trap, point, mode))  # the last test waits for the decision
    elif point.value.startswith("cancel."):
        cancelled.add(await cancel(world, trap, point, mode))
    elif point in (Point.LEAD_ACQUIRED, Point.LEAD_EMPTIED):
        set_trap(trap, point, mode)
        for dispatcher in world.of("dispatcher"):
            assert dispatcher.send(signal.SIGKILL)
        await world.are_complete([await submit(world, point, mode)], within=120)
    else:
        set_trap(trap, point, mode)
        assignment = SLOW if point is Point.WORK_START_TOLD else QUICK  # short jobs have no published start
        await world.are_complete([await submit(world, point, mode, assignment)], within=120)
    await until(lambda: trap.with_suffix(".taken").exists(), within=60 + PATIENCE.longest_rest)
    await until(world.client.is_ready)


async def test_the_history_has_no_violations(
    world: World, cancelled: set[str], pushed: set[str], report: Report
) -> None:
    """Check the whole history, after all other tests of this module."""
    await world.are_complete([await decided(world, delivery) for delivery in sorted(pushed)], within=120)
    await until(lambda: not world.spooled())
    problems = await world.verdict(slots=SLOTS, cancelled=cancelled)
    outcomes = await world.outcomes()
    points, pairs = len({point for point, _ in SELECTED}), len(SELECTED)
    injected = f"a crash at {points} named points, {pairs} pairs of point and mode ({', '.join(MODES)})"
    runs = len({entry.run for entry in world.history() if entry.what == "submitted"})
    seen = f"all {runs} runs are complete, {outcomes['succeeded']} of {outcomes.total()} jobs have succeeded"
    report.row("crash points", injected, f"{seen}, the others were cancelled", f"{len(problems)} violations")
    assert problems == []
    assert await without_report(world) == []
    # A job recovers from one crash, so no job is given up.
    assert outcomes["succeeded"] + outcomes["cancelled"] == outcomes.total() == 5 * runs + 3 * len(pushed)
    assert outcomes["cancelled"] <= len(cancelled)


async def without_report(world: World) -> list[str]:
    """Return the jobs of quick runs without the report of the attempt that ended them, or without its file."""
    query = {"type": "student grading job", "assignment": QUICK, "outcome": "succeeded"}
    jobs = {str(each["_id"]) async for each in world.database["grading_job"].find(query, {"_id": 1})}
    ends = await world.database["job_outcome"].find({}, {"grading_job_id": 1, "execution_id": 1}).to_list()
    reports = {str(each["_id"]): each async for each in world.database["job_report"].find()}
    files = {each["_id"] async for each in world.database["report_file"].find({}, {"_id": 1})}
    kept = {
        execution
        for execution, report in reports.items()
        if [len(stage["files"]) for stage in report["stages"]] == [1]
        and report["stages"][0]["files"][0]["sha256"] in files
    }
    assert jobs
    return sorted(jobs - {each["grading_job_id"] for each in ends if each["execution_id"] in kept})


def set_trap(trap: Path, point: Point, mode: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        trap.with_suffix(".taken").unlink()
    draft = trap.with_suffix(".draft")
    draft.write_text(f"{point.value} {mode}")
    draft.rename(trap)


def course_of(point: Point) -> str:
    return COURSES[list(Point).index(point) % len(COURSES)]


async def submit(world: World, point: Point, mode: str, assignment: str = QUICK) -> str:
    course = course_of(point)
    size = INLINE // 3 if point in BESIDE_RUN else 0
    return await world.submit(course, assignment, 3, key=f"{point.value} {mode} {assignment}", size=size)


async def rerun(world: World, trap: Path, point: Point, mode: str) -> None:
    course = course_of(point)
    run_id = await submit(world, point, mode)
    await world.are_complete([run_id], within=60)
    set_trap(trap, point, mode)
    answer = await world.ask("POST", f"/api/v2/courses/{course}/runs/{run_id}/rerun", course)
    assert answer.status_code in (200, 409), answer.text
    await until(lambda: trap.with_suffix(".taken").exists())
    await world.are_complete([run_id], within=120)


async def deliver(world: World, trap: Path, point: Point, mode: str) -> str:
    """Push once, and return the id of the delivery.

    The answer may be lost with the process, and no git server sends the push again: it is stored. A claim needs a push
    that another process has lost.
    """
    course, student = course_of(point), f"{point.value}-{mode}"
    set_trap(trap, *((Point.PUSH_KEPT, "exit") if point is Point.PUSH_CLAIMED else (point, mode)))
    raw = json.dumps(push(student)).encode()
    headers = {"X-GitHub-Delivery": student, "X-Hub-Signature-256": signature(raw, SECRET)}
    with contextlib.suppress(httpx2.TransportError):
        await world.client.http.post(f"/api/v2/courses/{course}/hooks/git", content=raw, headers=headers)
    if point is Point.PUSH_CLAIMED:
        await until(lambda: trap.with_suffix(".taken").exists())
        set_trap(trap, point, mode)

    return student


async def decided(world: World, student: str) -> str:
    """Return the run of a push once it is decided, which a process does that finds the push after a time."""

    async def delivery() -> dict[str, Any] | None:
        return await world.database["hook_delivery"].find_one({"delivery_id": student, "due_at": None})

    found = await until(delivery, within=60)
    assert found["state"] == "accepted"
    return str(found["run_id"])


async def cancel(world: World, trap: Path, point: Point, mode: str) -> str:
    """Submit a run, cancel one of its students' jobs, and return the job's id."""
    course = course_of(point)
    run_id = await submit(world, point, mode, SLOW)
    set_trap(trap, point, mode)

    async def students() -> list[dict[str, Any]]:
        jobs = (await world.client.describe(course, run_id))["jobs"]
        return [job for job in jobs if job["phase"] == "students"]

    job = (await until(students))[-1]
    answer = await world.ask("POST", f"/api/v2/courses/{course}/jobs/{job['id']}/cancel", course)
    assert answer.status_code in (200, 409), answer.text
    await world.are_complete([run_id], within=120)
    return str(job["id"])

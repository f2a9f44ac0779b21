"""A crash at every named point, in every mode: the run still finishes, and each of its jobs has one outcome.

The first process that reaches the point crashes, and restarts as under a supervisor. ``make faults`` tests every pair
of point and mode, other sessions every twentieth pair.
"""

import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from faults.report import Report
from faults.world import COURSES, World
from harness import IS_WHOLE, stage, until

from broadway.dispatcher.patience import PATIENCE
from broadway.runtime.crashpoints import Point

MODES = ("exit", "raise", "hang", "cancel")
PAIRS = [(point, mode) for number, point in enumerate(Point) for mode in MODES[number % 4 :] + MODES[: number % 4]]
SELECTED = PAIRS if IS_WHOLE else PAIRS[:: 4 * 5]
SLOTS = 2
QUICK, SLOW = "quick", "slow"
PHASES: dict[str, Any] = {
    "pre_processing_pipeline": [stage("exit", "0")],
    "post_processing_pipeline": [stage("exit", "0")],
}


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with World.open(tmp_path_factory.mktemp("world"), graders=2, slots=SLOTS, crashes=True) as world:
        for course in COURSES:
            await world.register(course, QUICK, {"student_pipeline": [stage("exit", "0")], **PHASES})
            await world.register(course, SLOW, {"student_pipeline": [stage("sleep", "2")], **PHASES})
        yield world


@pytest.fixture(scope="module")
def cancelled() -> set[str]:
    """The jobs with a requested cancellation."""
    return set()


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("point", "mode"), SELECTED, ids=str)
async def test_a_run_survives_a_crash(world: World, point: Point, mode: str, cancelled: set[str]) -> None:
    trap = world.directory / "crash"
    if point is Point.ORDER_STORED or point.value.startswith("order."):
        await rerun(world, trap, point, mode)
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
    await until(lambda: trap.with_suffix(".taken").exists(), within=20 + PATIENCE.longest_rest)
    await until(world.client.is_ready)


async def test_the_history_has_no_violations(world: World, cancelled: set[str], report: Report) -> None:
    """Check the whole history, after all other tests of this module."""
    await until(lambda: not world.spooled())
    problems = await world.verdict(slots=SLOTS, cancelled=cancelled)
    outcomes = await world.outcomes()
    points, pairs = len({point for point, _ in SELECTED}), len(SELECTED)
    injected = f"a crash at {points} named points, {pairs} pairs of point and mode ({', '.join(MODES)})"
    runs = len({entry.run for entry in world.history() if entry.what == "submitted"})
    seen = f"all {runs} runs are complete, {outcomes['succeeded']} of {outcomes.total()} jobs have succeeded"
    report.row("crash points", injected, f"{seen}, the others were cancelled", f"{len(problems)} violations")
    assert problems == []
    # A job recovers from one crash, so no job is given up.
    assert outcomes["succeeded"] + outcomes["cancelled"] == outcomes.total() == 5 * runs
    assert outcomes["cancelled"] <= len(cancelled)


def set_trap(trap: Path, point: Point, mode: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        trap.with_suffix(".taken").unlink()
    draft = trap.with_suffix(".draft")
    draft.write_text(f"{point.value} {mode}")
    draft.rename(trap)


async def submit(world: World, point: Point, mode: str, assignment: str = QUICK) -> str:
    course = COURSES[list(Point).index(point) % len(COURSES)]
    return await world.submit(course, assignment, 3, key=f"{point.value} {mode} {assignment}")


async def rerun(world: World, trap: Path, point: Point, mode: str) -> None:
    course = COURSES[list(Point).index(point) % len(COURSES)]
    run_id = await submit(world, point, mode)
    await world.are_complete([run_id], within=60)
    set_trap(trap, point, mode)
    answer = await world.ask("POST", f"/api/v2/courses/{course}/runs/{run_id}/rerun", course)
    assert answer.status_code in (200, 409), answer.text
    await until(lambda: trap.with_suffix(".taken").exists(), within=20)
    await world.are_complete([run_id], within=120)


async def cancel(world: World, trap: Path, point: Point, mode: str) -> str:
    """Submit a run, cancel one of its students' jobs, and return the job's id."""
    course = COURSES[list(Point).index(point) % len(COURSES)]
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

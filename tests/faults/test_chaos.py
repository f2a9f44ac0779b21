"""Many runs of many courses while everything is killed, frozen, cut off, purged and deleted at random.

A failing seed is part of the failure and replays with ``BROADWAY_CHAOS_SEEDS``. ``make faults`` runs this whole.
"""

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from faults.chaos import Chaos
from faults.report import Report
from faults.world import COURSES, World
from harness import stage

SLOTS = 8
IS_WHOLE = "BROADWAY_FAULTS" in os.environ
SEEDS = [int(seed) for seed in os.environ.get("BROADWAY_CHAOS_SEEDS", "1 2 3" if IS_WHOLE else "1").split()]
RUNS, STUDENTS, FAULTS = (20, 500, 120) if IS_WHOLE else (5, 80, 24)
CONFIG: dict[str, Any] = {
    "pre_processing_pipeline": [stage("exit", "0")],
    # Every tenth student fails, which has to be what is stored in the end.
    "student_pipeline": [stage("sleep", "0.02"), stage("fails-for", "STUDENT_ID", "7")],
    "post_processing_pipeline": [stage("print", "report")],
}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_job_has_one_outcome_whatever_is_broken(seed: int, tmp_path: Path, report: Report) -> None:
    async with World.open(tmp_path, dispatchers=2, results=2, graders=4, slots=SLOTS) as world:
        chaos = Chaos(world, seed)
        for course in COURSES:
            await world.register(course, "mp1", CONFIG)
        async with asyncio.TaskGroup() as group:
            group.create_task(chaos.inflict(FAULTS, jobs=RUNS * STUDENTS))
            run_ids = [
                await world.submit(COURSES[number % len(COURSES)], "mp1", STUDENTS, key=f"run-{number}")
                for number in range(RUNS)
            ]
        await world.are_over(run_ids, within=900)
        await world.are_queues_empty()
        problems = await world.verdict(slots=SLOTS)
        executions = sum(entry.what == "execution" for entry in world.history())
        outcomes = await _outcomes(world)

    jobs = RUNS * (STUDENTS + 2)
    again = executions / jobs - 1
    report.chaos(seed=seed, jobs=jobs, faults=chaos.done, problems=len(problems), again=again, outcomes=outcomes)
    assert problems == [], f"seed {seed}"
    assert outcomes.keys() <= {("fails", "failed"), ("passes", "succeeded"), ("any", "infrastructure_error")}
    assert outcomes["any", "infrastructure_error"] <= jobs // 100, outcomes
    if IS_WHOLE:
        assert sum(chaos.done.values()) >= FAULTS
        assert again <= 0.10, f"seed {seed}: {again:.1%} of the work was done again"


async def _outcomes(world: World) -> Counter[tuple[str, str]]:
    """What was expected of the jobs, and what they came to."""
    found = world.database["grading_job"].find({}, {"outcome": 1, "type": 1, "stages.env": 1})
    jobs = await found.to_list()
    counted: Counter[tuple[str, str]] = Counter()
    for job in jobs:
        student = job["stages"][0].get("env", {}).get("STUDENT_ID", "")
        expected = "fails" if job["type"] == "student grading job" and student.endswith("7") else "passes"
        outcome = job["outcome"]
        counted["any" if outcome == "infrastructure_error" else expected, outcome] += 1
    return counted

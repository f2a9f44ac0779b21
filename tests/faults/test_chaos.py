"""Many runs of many courses while processes, connections and queues fail at random.

A failing seed is part of the failure's message, and can be replayed with ``BROADWAY_CHAOS_SEEDS``. ``make faults`` runs
the full size.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from faults.chaos import Chaos
from faults.checker import POST_JOB, STUDENT_JOB
from faults.report import Report
from faults.servers import Servers
from faults.world import COURSES, World
from harness import IS_WHOLE, stage

SLOTS = 8
SHORT_SEED = "6"  # strikes graders, queues, connections, the broker and the store
SEEDS = [int(seed) for seed in os.environ.get("BROADWAY_CHAOS_SEEDS", "1 2 3" if IS_WHOLE else SHORT_SEED).split()]
RUNS, STUDENTS, FAULTS, GRADERS = (20, 500, 120, 4) if IS_WHOLE else (3, 20, 7, 2)
CONFIG: dict[str, Any] = {
    "pre_processing_pipeline": [stage("exit", "0")],
    # Every tenth student fails, and the stored outcomes must show exactly that.
    "student_pipeline": [stage("sleep", "0.02"), stage("fails-for", "STUDENT_ID", "7")],
    "post_processing_pipeline": [stage("print", "report")],
}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_job_has_one_outcome_under_random_faults(
    seed: int, fragile: Servers, tmp_path: Path, report: Report
) -> None:
    own = None if IS_WHOLE else fragile
    async with World.open(tmp_path, dispatchers=2, results=2, graders=GRADERS, slots=SLOTS, shared=own) as world:
        chaos = Chaos(world, seed)
        for course in COURSES:
            await world.register(course, "mp1", CONFIG)
        async with asyncio.TaskGroup() as group:
            group.create_task(chaos.inflict(FAULTS, jobs=RUNS * STUDENTS))
            run_ids = [
                await world.submit(COURSES[number % len(COURSES)], "mp1", STUDENTS, key=f"run-{number}")
                for number in range(RUNS)
            ]
        await world.are_complete(run_ids, within=900)
        problems = await world.verdict(slots=SLOTS)
        executions = sum(entry.what == "execution" for entry in world.history())
        students, posts = await world.outcomes(STUDENT_JOB), await world.outcomes(POST_JOB)
        outcomes = await world.outcomes()

    jobs, failing = RUNS * (STUDENTS + 2), RUNS * STUDENTS // 10
    again = executions / jobs - 1
    report.chaos(seed=seed, jobs=jobs, faults=chaos.done, problems=len(problems), again=again, outcomes=outcomes)
    assert problems == [], f"seed {seed}"
    assert outcomes.total() == jobs
    assert posts == {"succeeded": RUNS}
    # The checker has verified that each job with an infrastructure error used all its attempts.
    given_up = students.pop("infrastructure_error", 0)
    assert students.keys() == {"failed", "succeeded"}
    assert failing - given_up <= students["failed"] <= failing
    assert given_up <= max(1, jobs // 100)
    assert chaos.done.total() >= FAULTS
    if IS_WHOLE:
        assert again <= 0.10, f"seed {seed}: {again:.1%} of the work was done again"

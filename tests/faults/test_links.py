"""Every link between a process and the broker or the store breaks in every way, in the middle of a run.

A short session breaks links of each service, each in another way, ``make faults`` all links in every way.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from faults.proxy import Link
from faults.report import Report
from faults.servers import Servers
from faults.world import COURSES, World
from harness import IS_WHOLE, stage, until

SLOTS = 4
COURSE = COURSES[0]
LINKS = [
    ("grader-1", "broker"),
    ("dispatcher-1", "broker"),
    ("results-1", "broker"),
    ("results-1", "store"),
    ("dispatcher-1", "store"),
    ("ingest-1", "store"),
]
SECONDS = 12 if IS_WHOLE else 3  # 12 s exceed the broker's timeout and every other time limit
JOBS = 40 if IS_WHOLE else 10  # between two faults
PHASES: dict[str, Any] = {
    "pre_processing_pipeline": [stage("exit", "0")],
    "student_pipeline": [stage("sleep", "0.1"), stage("fails-for", "STUDENT_ID", "7")],
    "post_processing_pipeline": [stage("exit", "0")],
}


async def cut(link: Link) -> int:
    return link.cut()


async def blackhole(link: Link) -> int:
    return await link.blackhole(SECONDS)


async def delay(link: Link) -> int:
    return await link.slow_down(SECONDS, 0.2)


async def half_close(link: Link) -> int:
    return link.half_close()


Fault = Callable[[Link], Awaitable[int]]
FAULTS: list[Fault] = [cut, blackhole, delay, half_close]
PLANS: dict[str, list[tuple[tuple[str, str], Fault]]] = (
    {fault.__name__: [(link, fault) for link in LINKS] for fault in FAULTS}
    if IS_WHOLE
    else {"some": list(zip((LINKS[0], LINKS[1], LINKS[3], LINKS[5]), FAULTS, strict=True))}
)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("plan", PLANS)
async def test_a_run_survives_broken_links(plan: str, empty: Servers, tmp_path: Path, report: Report) -> None:
    faults = PLANS[plan]
    students = JOBS * (len(faults) + 1)
    async with World.open(tmp_path, shared=empty, graders=2, slots=SLOTS, linked=LINKS) as world:
        await world.register(COURSE, "mp1", PHASES)
        runs = [await world.submit(COURSE, "mp1", students, key="run")]
        for number, (line, fault) in enumerate(faults, 1):
            await until(lambda least=JOBS * number: world.finished_jobs() >= least, within=120)
            link = world.links[line]
            assert await until(lambda link=link, fault=fault: fault(link)), "connections were struck"
            runs.append(await world.submit(COURSE, "mp1", 1, key=f"after {line} {fault.__name__}"))
        await world.are_complete(runs, within=180)
        problems = await world.verdict(slots=SLOTS)
        outcomes = await world.outcomes()

    injected = f"{plan} on each line: {', '.join(f'{role} to {part}' for (role, part), _ in faults)}"
    seen = f"all {len(runs)} runs are complete, with {outcomes.total()} outcomes of {students + 3 * len(runs) - 1} jobs"
    report.row(f"links {plan}", injected, seen, f"{len(problems)} violations")
    assert problems == []
    assert outcomes == {"succeeded": students * 9 // 10 + 3 * len(runs) - 1, "failed": students // 10}

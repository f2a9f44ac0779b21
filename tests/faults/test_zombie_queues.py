"""A queue that was younger than a second when its broker was killed: it is there, and accepts nothing for ever."""

import asyncio
from pathlib import Path

import pytest
from faults.report import Report
from faults.world import COURSES, World
from harness import stage, until

COURSE = COURSES[0]
SLOTS = 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("queue", [f"broadway.course.{COURSE}.bulk", "broadway.ready.default", "broadway.results"])
async def test_a_zombie_is_replaced(tmp_path: Path, queue: str, report: Report) -> None:
    async with World.open(tmp_path, graders=2, slots=SLOTS) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("exit", "0")]})
        await world.are_complete([await world.submit(COURSE, "mp1", 3, key="before")], within=60)

        await world.rabbit.delete(queue)

        async def is_there_again() -> bool:
            return queue in await world.rabbit.queues()

        await until(is_there_again, within=60)
        await world.rabbit.server.kill()
        begun = asyncio.get_running_loop().time()
        await world.are_complete([await world.submit(COURSE, "mp1", 20, key="after")], within=200)
        took = asyncio.get_running_loop().time() - begun
        problems = await world.verdict(slots=SLOTS)

    injected = f"the broker killed right after `{queue}` was declared"
    report.row(f"zombie {queue}", injected, f"a run was complete {took:.0f} s later", f"{len(problems)} violations")
    assert problems == []

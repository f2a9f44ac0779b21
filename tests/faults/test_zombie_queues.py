"""A queue declared less than a second before its broker was killed: it exists, but never accepts a message."""

import asyncio
from pathlib import Path

import pytest
from faults.report import Report
from faults.world import COURSES, World
from harness import stage, until

pytestmark = pytest.mark.long

COURSE = COURSES[0]
SLOTS = 2
TRIES = 4  # a queue may have survived, or be gone


QUEUES = [f"broadway.course.{COURSE}.bulk", "broadway.ready.default", "broadway.results", "broadway.dispatcher"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("queue", QUEUES)
async def test_a_zombie_queue_is_replaced(tmp_path: Path, queue: str, report: Report) -> None:
    async with World.open(tmp_path, graders=2, slots=SLOTS) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("exit", "0")]})
        await world.are_complete([await world.submit(COURSE, "mp1", 3, key="before")], within=60)

        for number in range(TRIES):
            took = await _run_over_a_young_queue(world, queue, number)
            if was_zombie := _is_replaced(world, queue):
                break
        problems = await world.verdict(slots=SLOTS)

    injected = f"the broker killed right after `{queue}` was declared"
    seen = f"it took no message and was replaced; a run was complete {took:.0f} s later"
    report.row(f"zombie {queue}", injected, seen, f"{len(problems)} violations")
    assert problems == []
    assert was_zombie


async def _run_over_a_young_queue(world: World, queue: str, number: int) -> float:
    """Kill the broker right after the queue's declaration; return the seconds from its restart to a complete run."""
    await world.rabbit.delete(queue)

    async def is_there_again() -> bool:
        return queue in await world.rabbit.queues()

    await until(is_there_again, within=60)
    await world.rabbit.server.kill()
    begun = asyncio.get_running_loop().time()
    await world.are_complete([await world.submit(COURSE, "mp1", 20, key=f"after-{number}")], within=200)
    return asyncio.get_running_loop().time() - begun


def _is_replaced(world: World, queue: str) -> bool:
    """Return True if the dispatcher has found the queue to be a zombie."""
    lines = (world.directory / "dispatcher-1.log").read_text().splitlines()
    return any("a queue takes no message and is replaced" in line and queue in line for line in lines)

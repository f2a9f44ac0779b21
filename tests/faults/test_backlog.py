"""A very long backlog in one course: memory stays bounded, and another course's job starts at once."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from faults.report import Report
from faults.world import COURSES, World
from harness import stage, until

from broadway.messages.batches import JobsQueued

pytestmark = pytest.mark.long

RUNS, STUDENTS = 20, 5000
LARGE, SMALL = COURSES[:2]
SLOTS = 4
READY = 5 * SLOTS  # the dispatcher hands out up to four jobs for each slot, and each slot runs one
MEGABYTE = 1024 * 1024


@pytest.mark.timeout(1500)
async def test_a_long_backlog_does_not_delay_other_courses(tmp_path: Path, report: Report) -> None:
    # The defaults: the embedded store takes seconds for a query over all jobs of such a backlog.
    more = ("--heartbeat-interval", "10", "--mongodb-timeout", "5")
    flags = {
        "dispatcher": ("--reconcile-interval", "5", "--leader-ttl", "10"),
        "ingest": ("--max-waiting-jobs", str(2 * RUNS * STUDENTS)),
    }
    async with World.open(tmp_path, graders=2, slots=SLOTS // 2, more=more, flags=flags) as world:
        await world.register(LARGE, "mp1", {"student_pipeline": [stage("sleep", "1")]})
        await world.register(SMALL, "mp1", {"student_pipeline": [stage("exit", "0")]})
        await world.are_complete([await world.submit(LARGE, "mp1", 20, key="first")], within=60)
        assert {entry.grader for entry in world.history() if entry.what == "execution"} == {"grader-1", "grader-2"}
        before, starts = sizes(world), {name: role.starts for name, role in world.roles.items()}
        peaks = dict(before)
        watch = asyncio.create_task(_watch(world, peaks))
        for number in range(RUNS):
            await world.submit(LARGE, "mp1", STUDENTS, key=f"run-{number}")
        waiting = f"broadway.course.{LARGE}.bulk"

        async def is_queued() -> bool:
            return (await world.rabbit.queues()).get(waiting, 0) >= RUNS * STUDENTS / JobsQueued.most * 0.99

        await until(is_queued, within=900)
        delays = [await _delay(world, number) for number in range(5)]
        passed = max(overtaken for _, overtaken in delays)
        assert watch.cancel(), "every process could be watched to the end"
        restarted = [name for name, role in world.roles.items() if role.starts > starts[name]]

    grown = {name: (peaks[name] - before[name]) / MEGABYTE for name in before}
    servers = {name: grown.pop(name) for name in ("broker", "store")}
    worst = max(grown, key=lambda name: grown[name])
    report.row(
        "backlog",
        f"{RUNS * STUDENTS} jobs queued in one course, 4 slots busy",
        f"another course's job started after {max(delay for delay, _ in delays):.1f} s at most, "
        f"with {passed} of the waiting jobs before it; "
        f"no process of Broadway ever grew by more than {grown[worst]:.0f} MB ({worst}), "
        f"the broker by {servers['broker']:.0f} MB, the store by {servers['store']:.0f} MB",
        "nothing",
    )
    assert passed <= READY, "only jobs that were handed out already come first"
    assert grown[worst] < 200
    assert max(servers.values()) < 1000
    assert restarted == [], "who starts again has not stayed small"


async def _delay(world: World, number: int) -> tuple[float, int]:
    """Return the seconds from a small submission to the start of its job, and the jobs that started between."""
    begun = time.time()
    run_id = await world.submit(SMALL, "mp1", 1, key=f"small-{number}")

    def started() -> list[float]:
        return [entry.at for entry in world.history() if entry.what == "execution" and entry.run == run_id]

    (at,) = await until(started, within=60)
    between = [e for e in world.history() if e.what == "execution" and e.run != run_id and begun < e.at < at]
    return at - begun, len(between)


async def _watch(world: World, peaks: dict[str, int]) -> None:
    """Record the largest size of each process until cancelled."""
    while True:
        for name, size in sizes(world).items():
            peaks[name] = max(peaks[name], size)
        await asyncio.sleep(0.5)


def sizes(world: World) -> dict[str, int]:
    """Return the memory of every process in bytes, including the broker and the store."""
    pids = {name: role.process.pid for name, role in world.roles.items() if role.process}
    pids |= {"broker": world.rabbit.server.current.pid, "store": world.store.current.pid}
    return {name: resident(pid) for name, pid in pids.items()}


def resident(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""Real containers, while graders and the engine's daemon are killed: one outcome each, and nothing is left."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import docker
import pytest
from faults.report import Report
from faults.servers import Server
from faults.world import COURSES, World
from harness import until
from images import BUSYBOX, busybox

from broadway.local.engine import Engine, daemon, ground

COURSE = COURSES[0]
SLOTS = 2
IS_WHOLE = "BROADWAY_FAULTS" in os.environ
STUDENTS, KILLS, RESTARTS = (200, 15, 2) if IS_WHOLE else (24, 3, 1)
MARK = "0.271828"  # a sleep of nobody else


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Server[Engine]]:
    """An engine whose daemon can be killed; what it leaves behind is not tidied up for the graders."""
    async with ground(tmp_path / "engine") as place, Server(lambda: daemon(place)).running() as server:
        repository, _, tag = BUSYBOX.partition(":")
        client = docker.APIClient(place.docker_host, version="auto")
        await asyncio.to_thread(client.import_image_from_data, busybox(), repository=repository, tag=tag)
        client.close()
        yield server


def shell(script: str) -> dict[str, Any]:
    return {"image": BUSYBOX, "entrypoint": ["sh", "-c", script], "networking": False, "timeout": 60}


@pytest.mark.timeout(900)
async def test_real_containers(engine: Server[Engine], tmp_path: Path, report: Report) -> None:
    random = Random(1)  # noqa: S311 - to be the same again
    host = engine.current.docker_host
    async with World.open(tmp_path / "world", graders=2, slots=SLOTS, docker_host=host) as world:
        stages = [shell(f"echo one > /job/note; sleep {MARK}"), shell("cat /job/note")]
        await world.register(COURSE, "mp1", {"student_pipeline": stages})
        run_id = await world.submit(COURSE, "mp1", STUDENTS, key="run")
        faults = ["kill a grader"] * KILLS + ["restart the daemon"] * RESTARTS
        random.shuffle(faults)
        for number, fault in enumerate(faults):
            enough = STUDENTS * number // len(faults)
            await until(lambda at_least=enough: world.finished_jobs() >= at_least, within=300)
            if fault == "kill a grader":
                random.choice(world.of("grader")).send(signal.SIGKILL)
            else:
                await engine.kill()
        await world.are_complete([run_id], within=300)
        await until(lambda: leftovers(host, tmp_path) == [], within=10)
        problems = await world.verdict(slots=SLOTS)
        executions = [entry for entry in world.history() if entry.what == "execution"]
        jobs = await world.database["grading_job"].find({}, {"outcome": 1}).to_list()

    injected = f"{KILLS} graders and {RESTARTS} daemons killed during {STUDENTS} jobs of two real containers each"
    seen = f"one outcome each, {len(executions) - STUDENTS} executions repeated, nothing left 10 s later"
    report.row("real containers", injected, seen, f"{len(problems)} violations")
    assert problems == []
    # Three starts that were all killed end a job as an infrastructure error, which is told.
    assert {job["outcome"] for job in jobs} <= {"succeeded", "infrastructure_error"}
    assert sum(job["outcome"] == "succeeded" for job in jobs) >= 0.97 * STUDENTS


def leftovers(host: str, directory: Path) -> list[str]:
    """Containers, mounts, job directories and students' processes that are still there."""
    client = docker.APIClient(host, version="auto")
    found = [container["Id"] for container in client.containers(all=True)]
    client.close()
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if f"{directory}/world" in line]
    found += [str(path) for path in (directory / "world" / "work" / "jobs").glob("*/*")]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if MARK.encode() in process.read_bytes().split(b"\0"):
                found.append(str(process))
        except OSError:
            continue
    return found

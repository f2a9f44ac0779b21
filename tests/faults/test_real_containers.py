"""Real containers while graders and the engine's daemon are killed: one outcome each, and no leftovers."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import docker
import pytest
from faults.report import Report
from faults.servers import Server, Servers
from faults.world import COURSES, World
from harness import IS_WHOLE, until
from images import BUSYBOX, busybox

from broadway.local.engine import Engine, daemon, ground

COURSE = COURSES[0]
SLOTS = 2
STUDENTS, KILLS, RESTARTS = (200, 15, 2) if IS_WHOLE else (4, 1, 1)
MARK = "3600.271828"  # a sleep that only this test uses, too long to end by itself


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Server[Engine]]:
    """An engine whose daemon can be killed. Graders must clean up its leftovers themselves."""
    async with ground(tmp_path / "engine") as place, Server(lambda: daemon(place)).running() as server:
        await provide(place.docker_host)
        yield server


async def provide(host: str) -> None:
    """Import the image of all stages into an engine."""
    repository, _, tag = BUSYBOX.partition(":")
    client = docker.APIClient(host, version="auto")
    await asyncio.to_thread(client.import_image_from_data, busybox(), repository=repository, tag=tag)
    client.close()


def shell(script: str) -> dict[str, Any]:
    return {"image": BUSYBOX, "entrypoint": ["sh", "-c", script], "networking": False, "timeout": 60}


# Its grader ends it, or another process that finds it after the grader's death.
ENDLESS = {**shell(f"exec sleep {MARK}"), "timeout": 3}


def expect(stages: Sequence[Mapping[str, Any]]) -> str:
    return "timed_out" if MARK in stages[0]["entrypoint"][-1] else "succeeded"


@pytest.mark.timeout(900)
async def test_jobs_in_real_containers_survive_kills_of_graders_and_the_daemon(
    engine: Server[Engine], shared: Servers, tmp_path: Path, report: Report
) -> None:
    """Inject each fault while an endless container runs."""
    host = engine.current.docker_host
    async with World.open(tmp_path / "world", graders=2, slots=SLOTS, docker_host=host, shared=shared) as world:
        stages = [shell("echo one > /job/note; sleep 0.2"), shell("cat /job/note")]
        await world.register(COURSE, "mp1", {"student_pipeline": stages})
        await world.register(COURSE, "endless", {"student_pipeline": [ENDLESS]})
        runs = [await world.submit(COURSE, "mp1", STUDENTS, key="run")]
        faults = ["kill a grader"] * KILLS + ["restart the daemon"] * RESTARTS
        Random(1).shuffle(faults)  # noqa: S311 - must be repeatable
        for number, fault in enumerate(faults):
            enough = STUDENTS * number // len(faults)
            await until(lambda at_least=enough: world.finished_jobs() >= at_least, within=300)
            runs.append(await world.submit(COURSE, "endless", 1, key=f"endless-{number}"))
            grader = await until(lambda run_id=runs[-1]: _grader_of(world, run_id), within=60)
            if fault == "kill a grader":
                assert world.roles[grader].send(signal.SIGKILL)
            else:
                await engine.kill()
        await world.are_complete(runs, within=300)
        await nothing_is_left(host, tmp_path)
        problems = await world.verdict(slots=SLOTS, expect=expect)
        executions = [entry for entry in world.history() if entry.what == "execution"]
        outcomes = await world.outcomes()

    jobs, given_up = STUDENTS + len(faults), outcomes["infrastructure_error"]
    injected = f"{KILLS} graders and {RESTARTS} daemons killed during {jobs} jobs of real containers, some endless"
    repeated = f"{len(executions) - jobs} executions repeated, {given_up} jobs given up after three starts"
    report.row("real containers", injected, f"one outcome each, {repeated}, nothing left 10 s later", _count(problems))
    assert problems == []
    # The checker has verified that each job given up started three times; a fault also hits the job beside its target.
    assert outcomes["succeeded"] + outcomes["timed_out"] + given_up == jobs
    assert given_up <= max(1, 0.03 * jobs)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_run_survives_the_removal_of_its_image(engine: Server[Engine], tmp_path: Path, report: Report) -> None:
    """The image cannot be pulled either. Students are not blamed, and all succeed once the image is back."""
    host, students = engine.current.docker_host, 8
    async with World.open(tmp_path / "world", graders=1, slots=1, docker_host=host) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [shell("sleep 0.3"), shell("true")]})
        run_id = await world.submit(COURSE, "mp1", students, key="run")
        await until(lambda: world.finished_jobs() >= 2)
        client = docker.APIClient(host, version="auto")
        await asyncio.to_thread(client.remove_image, BUSYBOX, force=True)
        client.close()
        reasons = await until(lambda: _fault_reasons(world), within=60)
        await provide(host)
        await world.are_complete([run_id], within=180)
        first = await world.outcomes()
        if first["infrastructure_error"]:
            rerun = f"/api/v2/courses/{COURSE}/runs/{run_id}/rerun"
            answer = await world.ask("POST", rerun, COURSE, {"jobs": "failed"})
            assert answer.status_code == 200, answer.text
            await world.are_complete([run_id], within=120)
        await nothing_is_left(host, tmp_path)
        problems = await world.verdict(slots=1, expect=expect)
        outcomes = await world.outcomes()

    failed = first["infrastructure_error"]
    seen = f"{failed} of {students} jobs ended as infrastructure errors; all succeeded when the image was back"
    report.row("image", "the image removed in the middle of a run, and put back", seen, _count(problems))
    assert problems == []
    assert all(BUSYBOX in reason for reason in reasons), reasons
    assert first["succeeded"] + first["infrastructure_error"] == students
    assert outcomes == {"succeeded": students}


async def _fault_reasons(world: World) -> list[str]:
    """Return the reasons of all attempts that ended in infrastructure errors."""
    attempts = [attempt for job in await world.jobs({}) for attempt in job["attempts"]]
    return [str(attempt["reason"]) for attempt in attempts if attempt["outcome"] == "infrastructure_error"]


def _grader_of(world: World, run_id: str) -> str:
    """Return the grader that runs a run's only job, or an empty string until the job's process exists."""
    started = [entry for entry in world.history() if entry.what == "execution" and entry.run == run_id]
    return started[-1].grader if started and processes(MARK) else ""


async def nothing_is_left(host: str, directory: Path) -> None:
    """Return once nothing is left; fail with the leftovers after a time."""
    with contextlib.suppress(AssertionError):
        await until(lambda: leftovers(host, directory) == [])
    assert leftovers(host, directory) == []


def leftovers(host: str, directory: Path) -> list[str]:
    """Return all containers, shims with a program, mounts, job directories and students' processes that exist."""
    client = docker.APIClient(host, version="auto")
    found = [container["Id"] for container in client.containers(all=True)]
    client.close()
    jobs = directory / "world" / "work" / "jobs"
    kept = {str(path) for path in jobs.glob("*/*/*/*") if not any(path.iterdir())}  # for the next jobs
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if f"{directory}/world" in line]
    found += [line for line in mounts if line.split()[1] not in kept]
    found += [str(path) for path in jobs.glob("*/*/*/*/*")]
    engine = Path(host.removeprefix("unix://")).parent
    found += [line for pid, line in processes(f"{engine}/").items() if "containerd-shim" in line and has_a_program(pid)]
    return found + list(processes(MARK).values())


def has_a_program(shim: int) -> bool:
    """Return True if a program runs in a shim.

    A daemon that is killed while it starts a container forgets the container, and an empty shim stays.
    """
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text(errors="replace").rpartition(")")[2].split()[1]) == shim:
                return True
    return False


def processes(word: str) -> dict[int, str]:
    """Return the command lines, by process id, of the processes with ``word`` in their arguments."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found[int(path.parent.name)] = path.read_text(errors="replace").replace("\0", " ")
    return {pid: line for pid, line in found.items() if word in line}


def _count(problems: Sequence[str]) -> str:
    return f"{len(problems)} violations"

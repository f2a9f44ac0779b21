"""Whole parts are lost at once, and the system converges within bounded times."""

import asyncio
import contextlib
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
from faults.checker import Entry
from faults.report import Report
from faults.wire import Wire
from faults.world import COURSES, World
from harness import free_port, small_disk_at, stage, token_of, until
from scraping import Scrape

from broadway.runtime.cancellation import end

pytestmark = pytest.mark.long

SLOTS = 4
COURSE = COURSES[0]
STUDENTS = 200
ALL_WELL = {"succeeded": STUDENTS + 2}  # with one job before the students' jobs and one after them
RUSH, RATE = 30, 50  # seconds, submissions a second
MIB = 1 << 20
DISK = 320 * MIB  # more than the free space that a grader requires
PHASES: dict[str, Any] = {
    "pre_processing_pipeline": [stage("exit", "0")],
    "student_pipeline": [stage("sleep", "0.1")],
    "post_processing_pipeline": [stage("exit", "0")],
}


async def a_run(world: World, students: int = STUDENTS) -> str:
    await world.register(COURSE, "mp1", PHASES)
    return await world.submit(COURSE, "mp1", students, key="run")


async def done(world: World, at_least: int) -> None:
    await until(lambda: world.finished_jobs() >= at_least, within=120)


async def converges(world: World, run_id: str, *, within: float) -> list[str]:
    await world.are_complete([run_id], within=within)
    return await world.verdict(slots=SLOTS)


@pytest.mark.timeout(240)
async def test_a_run_survives_the_loss_of_the_brokers_data(tmp_path: Path, report: Report) -> None:
    async with World.open(tmp_path, graders=2, slots=SLOTS) as world:
        run_id = await a_run(world)
        await done(world, STUDENTS // 3)
        await world.rabbit.lose_everything()
        problems = await converges(world, run_id, within=180)
        outcomes = await world.outcomes()

    report.row("broker lost", "the broker killed and its data directory deleted", _seen(outcomes), _count(problems))
    assert problems == []
    assert outcomes == ALL_WELL


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_run_survives_a_kill_of_all_processes_at_once(tmp_path: Path, seed: int, report: Report) -> None:
    """Restart all processes in random order, including the broker and the store; services that need those retry."""
    random = Random(seed)  # noqa: S311 - must be repeatable
    async with World.open(tmp_path, dispatchers=2, graders=2, slots=SLOTS) as world:
        run_id = await a_run(world)
        await done(world, STUDENTS // 3)
        for role in world.roles.values():
            role.is_wanted.clear()
        async with world.rabbit.server.away() as broker_starts, world.store.away() as store_starts:
            for role in world.roles.values():
                assert role.send(signal.SIGKILL)
            starts = [broker_starts, store_starts, *(role.is_wanted for role in world.roles.values())]
            random.shuffle(starts)
            for start in starts:
                start.set()
                await asyncio.sleep(random.uniform(0.2, 1.5))
        problems = await converges(world, run_id, within=180)
        outcomes = await world.outcomes()

    injected = f"every process killed at once, all started one by one in random order, seed {seed}"
    report.row(f"power {seed}", injected, _seen(outcomes), _count(problems))
    assert problems == []
    assert outcomes == ALL_WELL


@pytest.mark.timeout(240)
async def test_a_run_survives_a_stop_of_every_service(tmp_path: Path, report: Report) -> None:
    async with World.open(tmp_path, dispatchers=2, graders=2, slots=SLOTS) as world:
        run_id = await a_run(world)
        for number, role in enumerate(world.roles.values(), 1):
            await done(world, STUDENTS * number // (len(world.roles) + 2))
            await until(lambda role=role: role.send(signal.SIGTERM))
        problems = await converges(world, run_id, within=120)
        outcomes = await world.outcomes()
        starts = {role.name: role.starts for role in world.roles.values()}

    report.row("SIGTERM", "SIGTERM to every service, one after another", _seen(outcomes), _count(problems))
    assert problems == []
    assert outcomes == ALL_WELL
    assert all(number >= 2 for number in starts.values()), "each has ended, and started again"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk for the work directories of all graders."""
    with small_disk_at(tmp_path / "work", size=DISK, inodes=10_000) as disk:
        yield disk


@pytest.mark.timeout(240)
async def test_graders_with_a_full_disk_report_their_outcomes_and_take_no_jobs(
    tmp_path: Path, small_disk: Path, report: Report
) -> None:
    """Outcomes are reported although they cannot be spooled, and no job is taken until there is space."""
    async with World.open(tmp_path, graders=2, slots=SLOTS) as world:
        run_id = await a_run(world)
        await done(world, STUDENTS // 3)
        async with crowded(small_disk):
            await until(lambda: _paused_for(world, "disk"))
            unspooled = sum(role.log.read_text().count("outcome not spooled") for role in world.of("grader"))
        problems = await converges(world, run_id, within=120)
        outcomes = await world.outcomes()

    seen = f"{unspooled} outcomes reported that could not be spooled, then no job taken; {_seen(outcomes)}"
    report.row("disk", "the disk of both graders full for a while", seen, _count(problems))
    assert problems == []
    assert outcomes == ALL_WELL
    assert unspooled


@contextlib.asynccontextmanager
async def crowded(disk: Path) -> AsyncIterator[None]:
    """Fill the disk, and take any space that becomes free, until the block ends."""
    ballast = disk / "ballast"

    async def crowd() -> None:
        with ballast.open("wb", buffering=0) as file:
            while True:
                with contextlib.suppress(OSError):
                    file.write(bytes(MIB))
                    continue
                await asyncio.sleep(0.001)

    crowding = asyncio.create_task(crowd())
    try:
        yield
    finally:
        await end(crowding)
        ballast.unlink()


async def _paused_for(world: World, part: str) -> bool:
    """Return True if every grader reports that it takes no jobs because of ``part``."""
    graders = await world.database["worker_node"].find({}, {"paused": 1}).to_list()
    return bool(graders) and all(grader["paused"].startswith(f"{part}:") for grader in graders)


@pytest.mark.timeout(300)
async def test_a_lost_graders_job_soon_starts_elsewhere(tmp_path: Path, report: Report) -> None:
    more = ("--heartbeat-interval", "10")  # the default; a lease lasts 30 s
    async with World.open(tmp_path, graders=2, slots=1, more=more) as world:
        await world.register(COURSE, "long", {"student_pipeline": [stage("sleep", "45", timeout=100)]})

        killed = await _started_elsewhere(world, "killed", lambda role: role.send(signal.SIGKILL))
        frozen = await _started_elsewhere(world, "frozen", lambda role: role.send(signal.SIGSTOP))
        problems = await converges(world, (await world.submit(COURSE, "long", 0, key="none")), within=60)
        executions = [entry for entry in world.history() if entry.what == "execution"]

    for fault, took in (("killed", killed), ("frozen", frozen)):
        injected = f"a grader {fault} while it runs a job"
        report.row(f"recovery, {fault}", injected, f"it runs elsewhere after {took:.1f} s", _count(problems))
    assert problems == []
    assert len(executions) == 4, "each of the two jobs ran twice, and has one outcome"
    assert killed < 2
    assert frozen < 40


async def _started_elsewhere(world: World, key: str, strike: Any) -> float:
    """Return the seconds from the fault of the grader that runs the only job until another grader runs it."""
    run_id = await world.submit(COURSE, "long", 1, key=key)

    def executions() -> list[str]:
        return [entry.grader for entry in world.history() if entry.what == "execution" and entry.run == run_id]

    (first,) = await until(executions)
    # A restart of the same grader must not take the job.
    world.roles[first].is_wanted.clear()
    begun = time.monotonic()
    strike(world.roles[first])
    await until(lambda: len(executions()) > 1)
    took = time.monotonic() - begun
    world.roles[first].is_wanted.set()
    world.roles[first].send(signal.SIGCONT)
    await world.are_complete([run_id], within=120)
    return took


@pytest.mark.timeout(120)
async def test_the_second_outcome_of_a_job_is_refused_and_counted(tmp_path: Path, report: Report) -> None:
    """The first grader is frozen until the second has finished, and its own job ends meanwhile: both report."""
    port = free_port()
    flags = {"results": ("--metrics-port", str(port))}
    async with World.open(tmp_path, graders=2, slots=1, flags=flags) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("sleep", "2")]})
        run_id = await world.submit(COURSE, "mp1", 1, key="run")
        first = await until(lambda: _of(world, "execution"))
        frozen = world.roles[first[0].grader]
        assert frozen.send(signal.SIGSTOP)
        await world.are_complete([run_id], within=60)
        before = await _refused(port)
        assert frozen.send(signal.SIGCONT)

        async def is_refused() -> bool:
            return await _refused(port) != before

        await until(is_refused)
        refused = await _refused(port)
        problems = await world.verdict(slots=1)
        executions, ends, outcomes = (_of(world, kind) for kind in ("execution", "execution-ended", "outcome"))

    seen = f"one outcome, the other refused and counted ({', '.join(refused)})"
    report.row("two outcomes", "a grader frozen until another one has finished its job", seen, _count(problems))
    assert problems == []
    assert before == {}
    assert refused == {"duplicate": 1}
    assert len(executions) == len(ends) == 2
    assert len({entry.grader for entry in executions}) == 2
    assert [entry.execution for entry in outcomes] == [executions[1].execution]


def _of(world: World, kind: str) -> list[Entry]:
    return [entry for entry in world.history() if entry.what == kind]


async def _refused(port: int) -> dict[str, float]:
    """Return the number of refused outcomes by reason, from the metrics of the results service."""
    async with httpx2.AsyncClient() as http:
        scrape = Scrape.of((await http.get(f"http://127.0.0.1:{port}/metrics")).raise_for_status().text)
    return scrape.by("broadway_outcomes_refused_total", "reason")


@pytest.mark.timeout(300)
async def test_a_rush_of_repeated_submissions_makes_each_run_once(tmp_path: Path, report: Report) -> None:
    """Meanwhile eight slots run the submitted jobs, which take a second each."""
    more, flags = ("--heartbeat-interval", "10"), {"dispatcher": ("--reconcile-interval", "5")}
    async with World.open(tmp_path, graders=1, slots=8, more=more, flags=flags) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("sleep", "1")]})
        deliveries, latencies = await _rush(world)
        stored = await world.database["grading_run"].count_documents({})

    runs = {run_id for answers in deliveries for _, run_id in answers}
    p50, p99 = (sorted(latencies)[int(len(latencies) * share)] for share in (0.5, 0.99))
    seen = f"{len(runs)} runs; p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms"
    injected = f"{RATE} submissions/s for {RUSH:.0f} s, each three times at once with one key"
    report.row("rush", injected, seen, f"{len(deliveries) - len(runs)} submissions")
    assert all(len(answers) == 1 and next(iter(answers))[0] == 200 for answers in deliveries)
    assert len(runs) == stored == RUSH * RATE
    assert p99 < 0.25


async def _rush(world: World) -> tuple[list[set[tuple[int, str]]], list[float]]:
    """Return the distinct answers to the copies of each delivery, and the seconds that each answer took."""
    latencies: list[float] = []
    body = json.dumps({"students_env": [{"STUDENT_ID": "s1"}]}).encode()
    token = f"Bearer {token_of(COURSE)}"
    loop = asyncio.get_running_loop()
    port = world.client.http.base_url.port
    assert port

    async with Wire.to("127.0.0.1", port) as wire:

        async def send(number: int) -> tuple[int, str]:
            begun = loop.time()
            headers = {"Authorization": token, "Idempotency-Key": f"delivery-{number}"}
            status, answer = await wire.post(f"/api/v1/grading_run/{COURSE}/mp1", body, headers)
            latencies.append(loop.time() - begun)
            return status, answer["data"]["grading_run_id"]

        async def deliver(number: int) -> set[tuple[int, str]]:
            return set(await asyncio.gather(*(send(number) for _ in range(3))))

        tasks = []
        begun = loop.time()
        for number in range(RUSH * RATE):
            await asyncio.sleep(max(0.0, begun + number / RATE - loop.time()))
            tasks.append(asyncio.create_task(deliver(number)))
        return await asyncio.gather(*tasks), latencies


def _seen(outcomes: Counter[str]) -> str:
    counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
    return f"the run is complete, with one outcome of each job: {counts}"


def _count(problems: list[str]) -> str:
    return f"{len(problems)} violations"

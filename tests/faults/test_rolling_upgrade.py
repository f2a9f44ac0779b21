"""An upgrade during term: each process is replaced by one of this version, one after another, while a class is graded.

All of them are of the version before at first. Old and new ones overlap in every role, and one goes the way back.
"""

import asyncio
import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from faults.checker import POST_JOB, STUDENT_JOB
from faults.earlier import COMMIT, KEPT, extract
from faults.report import Report
from faults.world import COURSES, Role, World
from harness import stage, until

pytestmark = pytest.mark.long

SLOTS, RUNS, STUDENTS = 4, 40, 25
FAILING = 2  # students of a run, by CONFIG
AHEAD = 100  # jobs that are submitted and not finished, about
BETWEEN = 20  # jobs that finish before the next process is replaced, at least
CONFIG: dict[str, Any] = {
    "pre_processing_pipeline": [stage("exit", "0")],
    "student_pipeline": [stage("sleep", "0.3"), stage("fails-for", "STUDENT_ID", "7")],
    "post_processing_pipeline": [stage("print", "report")],
}
ORDER = (
    *("results-1", "dispatcher-2", "ingest-1", "grader-1", "notifier-1"),
    *("results-2", "dispatcher-1", "ingest-2", "grader-2", "grader-3", "notifier-2"),
)
BACK = "results-1"


@pytest.mark.timeout(1800)
async def test_no_job_is_lost_or_doubled_while_every_process_is_replaced(tmp_path: Path, report: Report) -> None:
    earlier = await asyncio.to_thread(extract, KEPT)
    new: dict[str, tuple[Any, dict[str, str]]] = {}

    def prepare(role: Role) -> None:
        new[role.name] = role.command, role.environment
        earlier.run_by(role)

    counts = {"dispatchers": 2, "results": 2, "notifiers": 2, "ingests": 2, "graders": 3}
    async with World.open(tmp_path / "world", **counts, slots=SLOTS, health_files=True, prepare=prepare) as world:
        assert {role.name for role in world.roles.values()} == set(ORDER)

        def upgrade(role: Role) -> None:
            role.command, role.environment = new[role.name]
            role.is_warm = True

        for course in COURSES:
            await world.register(course, "mp1", CONFIG)
        steps = [*((name, upgrade) for name in ORDER), (BACK, earlier.run_by), (BACK, upgrade)]
        async with asyncio.TaskGroup() as group:
            are_replaced = asyncio.Event()
            loading = group.create_task(load(world, are_replaced))
            for name, change in steps:
                enough = world.finished_jobs() + BETWEEN
                await until(lambda enough=enough: world.finished_jobs() >= enough, within=300)
                await replace(world, world.roles[name], change)
            are_replaced.set()
            run_ids = await loading
        assert not [role.name for role in world.roles.values() if not role.is_warm]
        await world.are_complete(run_ids, within=300)
        problems = await world.verdict(slots=SLOTS)
        students, posts = await world.outcomes(STUDENT_JOB), await world.outcomes(POST_JOB)
        outcomes = await world.outcomes()
        executions = sum(entry.what == "execution" for entry in world.history())

    runs = len(run_ids)
    jobs = runs * (STUDENTS + 2)
    seen = f"all {runs} runs are complete, {jobs} jobs, {executions - jobs} of them executed again"
    report.row(
        "upgrade", f"every process of {COMMIT[:8]} replaced, one taken back", seen, f"{len(problems)} violations"
    )
    assert problems == []
    assert outcomes.total() == jobs
    assert posts == {"succeeded": runs}
    assert students == {"succeeded": runs * (STUDENTS - FAILING), "failed": runs * FAILING}


async def load(world: World, may_end: asyncio.Event) -> list[str]:
    """Submit runs as jobs finish, until there are enough and it may end; read each with v1 and v2."""
    run_ids: list[str] = []
    while len(run_ids) < RUNS or not may_end.is_set():
        course = COURSES[len(run_ids) % len(COURSES)]
        run_id = await world.submit(course, "mp1", STUDENTS, key=f"run-{len(run_ids)}")
        for path in (f"v1/grading_run_status/{course}/{run_id}", f"v2/courses/{course}/runs/{run_id}"):
            answer = await world.ask("GET", f"/api/{path}", course)
            assert answer.status_code == 200, answer.text
        run_ids.append(run_id)
        enough = len(run_ids) * (STUDENTS + 2) - AHEAD
        await until(lambda enough=enough: world.finished_jobs() >= enough, within=300)
    return run_ids


async def replace(world: World, role: Role, change: Callable[[Role], None]) -> None:
    """End a process as an upgrade does, and return once the next one is ready."""
    assert role.process
    change(role)
    begun = datetime.now(UTC)
    role.send(signal.SIGTERM)
    await role.process.wait()

    async def is_ready() -> bool:
        if role.name.startswith("grader"):
            found = await world.database["worker_node"].find_one({"_id": role.name})
            return bool(found and found["alive"] and found["last_seen"].replace(tzinfo=UTC) > begun)
        health = json.loads((world.directory / f"{role.name}.health").read_text())
        return bool(health["ready"]) and datetime.fromisoformat(health["looked_at"]) > begun

    starts = role.starts
    await until(lambda: role.starts > starts, within=300)
    await until(is_ready, within=300)

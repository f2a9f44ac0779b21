"""Pushes while the broker is unavailable: each is answered at once, and runs once."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import pytest
from faults.report import Report
from faults.wire import Wire
from faults.world import COURSES, World
from harness import IS_WHOLE, stage, token_of, until
from pushes import push, signature

COURSE = COURSES[0]
PUSHES, RATE = (500, 50) if IS_WHOLE else (60, 20)  # the rate is per second
SECRET = "a-secret-of-this-hook"
HOOK = f"/api/v2/courses/{COURSE}/hooks/git"


async def put(world: World, path: str, body: object) -> None:
    headers = {"Authorization": f"Bearer {token_of(COURSE)}"}
    answer = await world.client.http.put(f"/api/v2/courses/{COURSE}/{path}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text


@pytest.mark.timeout(300)
async def test_pushes_without_the_broker_are_answered_and_run_once_when_it_is_back(
    tmp_path: Path, report: Report
) -> None:
    students = [f"student-{number}" for number in range(PUSHES)]
    async with World.open(tmp_path, graders=2, slots=8) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("exit", "0")]})
        await put(world, "hooks/git", {"assignment": "mp1", "secrets": [SECRET]})
        roster = [{"student": name, "repository": f"cs/{name}", "env": {"STUDENT_ID": name}} for name in students]
        await put(world, "assignments/mp1/roster", {"students": roster})
        async with world.rabbit.server.away():
            answers = await _pushed(world, students)

        async def are_all_runs() -> list[str]:
            """Return all runs once they exist, including those created from a delivery after its answer."""
            found = await world.database["grading_run"].find({}, {"_id": 1}).to_list()
            return [str(run["_id"]) for run in found] if len(found) >= PUSHES else []

        runs = await until(are_all_runs, within=120)
        await world.are_complete(runs, within=120)
        problems = await world.verdict(slots=8)
        executed = Counter(entry.run for entry in world.history() if entry.what == "execution")

    slowest = max(seconds for _, seconds in answers)
    injected = f"{PUSHES} pushes at {RATE}/s while the broker was down"
    report.row("pushes", injected, f"all accepted, the slowest answer took {slowest * 1000:.0f} ms", "0 submissions")
    assert {status for status, _ in answers} == {202}
    assert len(runs) == PUSHES
    assert executed == Counter(runs), "each ran once"
    assert problems == []
    if IS_WHOLE:
        assert slowest < 1


async def _pushed(world: World, students: list[str]) -> list[tuple[int, float]]:
    """Send the pushes; return the status and the seconds of each answer."""
    url = world.client.http.base_url
    answers: list[tuple[int, float]] = []

    async with Wire.to(url.host, url.port or 80) as wire, asyncio.TaskGroup() as group:

        async def send(student: str) -> None:
            raw = json.dumps(push(student)).encode()
            begun = time.monotonic()
            headers = {"X-GitHub-Delivery": student, "X-Hub-Signature-256": signature(raw, SECRET)}
            status, _ = await wire.post(HOOK, raw, headers)
            answers.append((status, time.monotonic() - begun))

        begun = time.monotonic()
        for number, student in enumerate(students):
            await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
            group.create_task(send(student))
    return answers

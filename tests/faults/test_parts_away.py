"""Outages of the broker or the store: they are reported, the rest keeps working, and recovery is automatic."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from faults.report import Report
from faults.servers import Rabbit, Servers
from faults.wire import Wire
from faults.world import COURSES, World
from harness import IS_WHOLE, PATIENCE, stage, token_of, until
from pushes import push, signature

COURSE, PUSHED = COURSES[:2]
SOON = 3.0  # seconds; usually about 2, but the machine may be busy
AWAY = 12 if IS_WHOLE else 5  # seconds; a lease lasts 3
PUSHES, RATE = (500, 50) if IS_WHOLE else (30, 20)  # the rate is per second
SECRET = "a-secret-of-this-hook"


@pytest.fixture(scope="module")
async def world(fragile: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    directory: Path = tmp_path_factory.mktemp("world")
    async with World.open(directory, graders=1, health_files=True, shared=fragile) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("exit", "0")]})
        yield world


async def readiness(world: World) -> tuple[int, dict[str, Any]]:
    answer = await world.client.http.get("/readyz")
    body: dict[str, Any] = answer.json()
    return answer.status_code, body


async def unavailable(world: World, part: str) -> tuple[int, dict[str, Any]]:
    """Return the API's readiness once it reports a part as unavailable."""

    async def is_known() -> Any:
        status, body = await readiness(world)
        return (status, body) if not body[part] else None

    found: tuple[int, dict[str, Any]] = await until(is_known)
    return found


async def submit(world: World, **headers: str) -> tuple[httpx2.Response, float]:
    """Submit once; return the answer and the seconds that it took."""
    begun = time.monotonic()
    answer = await world.client.http.post(
        f"/api/v1/grading_run/{COURSE}/mp1",
        json={"students_env": [{"STUDENT_ID": "s1"}]},
        headers={"Authorization": f"Bearer {token_of(COURSE)}", **headers},
    )
    return answer, time.monotonic() - begun


def health_of(world: World, role: str) -> str:
    return (world.directory / f"{role}.health").read_text()


FAULTS: dict[str, tuple[str, Callable[[Rabbit], AbstractAsyncContextManager[None]]]] = {
    "frozen": (f"the broker frozen for {AWAY} s", lambda rabbit: rabbit.server.frozen()),
    "alarm": ("a memory alarm of the broker", lambda rabbit: rabbit.short_of_memory()),
    "disk alarm": ("a disk alarm of the broker", lambda rabbit: rabbit.short_of_disk()),
}


async def running_job(world: World, *, key: str) -> str:
    """Submit a run whose only job lasts longer than an outage; return the run's id once the job runs."""
    await world.register(COURSE, "long", {"student_pipeline": [stage("sleep", str(AWAY + 4))]})
    run_id = await world.submit(COURSE, "long", 1, key=key)

    async def is_running() -> bool:
        return [job["state"] for job in await world.client.jobs(COURSE, run_id)] == ["running"]

    await until(is_running)
    return run_id


@pytest.mark.parametrize("fault", FAULTS if IS_WHOLE else ["frozen", "alarm"])
async def test_without_the_broker_submissions_are_accepted_and_run_later(
    world: World, fault: str, report: Report
) -> None:
    """The outage lasts longer than the lease of a job that runs meanwhile, which is not started again."""
    injected, strike = FAULTS[fault]
    long = await running_job(world, key=f"long-{fault}")
    async with strike(world.rabbit):
        lasted = asyncio.create_task(asyncio.sleep(AWAY))
        status, body = await unavailable(world, "broker")
        assert (status, body["ready"], body["store"]) == (200, True, True)
        since = datetime.fromisoformat(body["away"]["broker"]["since"])
        assert timedelta(0) <= datetime.now(UTC) - since < timedelta(seconds=PATIENCE)
        await until(lambda: '"broker": false' in health_of(world, "results-1"))
        answer, took = await submit(world)
        assert answer.status_code == 200
        if IS_WHOLE:
            assert took < 1
        await lasted
    run_id = answer.json()["data"]["grading_run_id"]
    await world.are_complete([run_id, long], within=90)
    assert [(job["outcome"], job["attempts"]) for job in await world.client.jobs(COURSE, long)] == [("succeeded", 1)]
    await until(lambda: '"ready": true' in health_of(world, "results-1"))
    report.row(
        f"away, {fault}", injected, f"a submission was answered in {took * 1000:.0f} ms and ran later", "nothing"
    )


async def test_without_the_store_submissions_are_refused_at_once(world: World, report: Report) -> None:
    async with world.store.frozen():
        status, body = await unavailable(world, "store")
        assert (status, body["ready"]) == (503, False)
        answer, took = await submit(world)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        if IS_WHOLE:
            assert took < 0.2
        await until(lambda: '"store": false' in health_of(world, "dispatcher-1"))

    async def is_back() -> bool:
        return (await readiness(world))[0] == 200

    await until(is_back)
    accepted = await world.submit(COURSE, "mp1", 3, key="after")
    await world.are_complete([accepted], within=60)
    report.row("away, store", "the store frozen", f"503 with Retry-After in {took * 1000:.0f} ms", "nothing")


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_submissions_that_wait_as_the_store_stops_are_refused_within_seconds(
    world: World, number: signal.Signals, report: Report
) -> None:
    keys = [f"{number.name}-{index}" for index in range(20)]
    async with world.store.away() if number is signal.SIGKILL else world.store.frozen():
        answers = await asyncio.gather(*(submit(world, **{"Idempotency-Key": key}) for key in keys))
        assert {(answer.status_code, answer.headers["retry-after"]) for answer, _ in answers} == {(503, "5")}
        slowest = max(took for _, took in answers)
        if IS_WHOLE:
            assert slowest < SOON

    async def is_back() -> bool:
        return (await readiness(world))[0] == 200

    await until(is_back)
    again = [(await submit(world, **{"Idempotency-Key": key}))[0] for key in keys]
    assert {answer.status_code for answer in again} == {200}
    runs = [answer.json()["data"]["grading_run_id"] for answer in again]
    assert len(set(runs)) == len(keys)
    await world.are_complete(runs, within=90)
    injected = f"the store stopped by {number.name} while 20 submissions arrive"
    report.row(
        f"away, {number.name}", injected, f"503 with Retry-After within {slowest:.1f} s, repeated later", "nothing"
    )


async def put(world: World, path: str, body: object) -> None:
    answer = await world.ask("PUT", f"/api/v2/courses/{PUSHED}/{path}", PUSHED, body)
    assert answer.status_code == 200, answer.text


async def test_pushes_without_the_broker_are_answered_and_run_once_when_it_is_back(
    world: World, report: Report
) -> None:
    students = [f"student-{number}" for number in range(PUSHES)]
    await world.register(PUSHED, "mp1", {"student_pipeline": [stage("exit", "0")]})
    await put(world, "hooks/git", {"assignment": "mp1", "secrets": [SECRET]})
    roster = [{"student": name, "repository": f"cs/{name}", "env": {"STUDENT_ID": name}} for name in students]
    await put(world, "assignments/mp1/roster", {"students": roster})
    async with world.rabbit.server.away():
        answers = await pushed(world, students)

    async def are_all_runs() -> list[str]:
        """Return all runs once they exist, including those created from a delivery after its answer."""
        deliveries = await world.database["hook_delivery"].find({}, {"run_id": 1}).to_list()
        runs = [str(each["run_id"]) for each in deliveries if each.get("run_id")]
        return runs if len(runs) >= PUSHES else []

    runs = await until(are_all_runs, within=120)
    await world.are_complete(runs, within=120)
    executed = Counter(entry.run for entry in world.history() if entry.what == "execution" and entry.run in runs)

    slowest = max(seconds for _, seconds in answers)
    injected = f"{PUSHES} pushes at {RATE}/s while the broker was down"
    report.row("pushes", injected, f"all accepted, the slowest answer took {slowest * 1000:.0f} ms", "0 submissions")
    assert {status for status, _ in answers} == {202}
    assert len(runs) == PUSHES
    assert executed == Counter(runs), "each ran once"
    if IS_WHOLE:
        assert slowest < 1


async def pushed(world: World, students: list[str]) -> list[tuple[int, float]]:
    """Send the pushes; return the status and the seconds of each answer."""
    url, hook = world.client.http.base_url, f"/api/v2/courses/{PUSHED}/hooks/git"
    answers: list[tuple[int, float]] = []

    async with Wire.to(url.host, url.port or 80) as wire, asyncio.TaskGroup() as group:

        async def send(student: str) -> None:
            raw = json.dumps(push(student)).encode()
            begun = time.monotonic()
            headers = {"X-GitHub-Delivery": student, "X-Hub-Signature-256": signature(raw, SECRET)}
            status, _ = await wire.post(hook, raw, headers)
            answers.append((status, time.monotonic() - begun))

        begun = time.monotonic()
        for number, student in enumerate(students):
            await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
            group.create_task(send(student))
    return answers


async def test_the_history_has_no_violations(world: World) -> None:
    """Check the whole history, after all other tests of this module."""
    assert await world.verdict(slots=4) == []

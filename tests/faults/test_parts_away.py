"""Outages of the broker or the store: they are reported, the rest keeps working, and recovery is automatic."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from faults.report import Report
from faults.servers import Rabbit
from faults.world import COURSES, World
from harness import IS_WHOLE, PATIENCE, stage, token_of, until

COURSE = COURSES[0]
SOON = 3.0  # seconds; usually about 2, but the machine may be busy


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    directory: Path = tmp_path_factory.mktemp("world")
    async with World.open(directory, graders=1, health_files=True) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("exit", "0")]})
        yield world


@contextlib.asynccontextmanager
async def meanwhile(fault: Awaitable[Any]) -> AsyncIterator[None]:
    """Run a fault beside the block, and wait for its end after the block."""
    task = asyncio.ensure_future(fault)
    try:
        yield
    finally:
        await task


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


FAULTS: dict[str, tuple[str, Callable[[Rabbit], Awaitable[None]]]] = {
    "frozen": ("the broker frozen for 12 s", lambda rabbit: rabbit.server.freeze(12)),
    "alarm": ("a memory alarm of the broker", lambda rabbit: rabbit.alarm(15)),
    "disk alarm": ("a disk alarm of the broker", lambda rabbit: rabbit.disk_alarm(15)),
}


@pytest.mark.parametrize("fault", FAULTS if IS_WHOLE else ["frozen", "alarm"])
async def test_without_the_broker_submissions_are_accepted_and_run_later(
    world: World, fault: str, report: Report
) -> None:
    injected, strike = FAULTS[fault]
    async with meanwhile(strike(world.rabbit)):
        status, body = await unavailable(world, "broker")
        assert (status, body["ready"], body["store"]) == (200, True, True)
        since = datetime.fromisoformat(body["away"]["broker"]["since"])
        assert timedelta(0) <= datetime.now(UTC) - since < timedelta(seconds=PATIENCE)
        await until(lambda: '"broker": false' in health_of(world, "results-1"))
        answer, took = await submit(world)
        assert answer.status_code == 200
        if IS_WHOLE:
            assert took < 1
    run_id = answer.json()["data"]["grading_run_id"]
    await world.are_complete([run_id], within=90)
    await until(lambda: '"ready": true' in health_of(world, "results-1"))
    report.row(
        f"away, {fault}", injected, f"a submission was answered in {took * 1000:.0f} ms and ran later", "nothing"
    )


@pytest.mark.parametrize("fault", ["frozen", "alarm"] if IS_WHOLE else ["frozen"])
async def test_a_job_that_runs_while_the_broker_is_unavailable_is_not_started_again(world: World, fault: str) -> None:
    await world.register(COURSE, "long", {"student_pipeline": [stage("sleep", "16")]})
    run_id = await world.submit(COURSE, "long", 1, key=f"long-{fault}")

    async def is_running() -> bool:
        return [job["state"] for job in (await world.client.describe(COURSE, run_id))["jobs"]] == ["running"]

    await until(is_running)
    await (world.rabbit.server.freeze(12) if fault == "frozen" else world.rabbit.alarm(12))  # a lease lasts 3
    run = await world.client.finished(COURSE, run_id)

    assert [(job["outcome"], job["attempts"]) for job in run["jobs"]] == [("succeeded", 1)]


async def test_without_the_store_submissions_are_refused_at_once(world: World, report: Report) -> None:
    async with meanwhile(world.store.freeze(15)):
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
    report.row("away, store", "the store frozen for 15 s", f"503 with Retry-After in {took * 1000:.0f} ms", "nothing")


@contextlib.asynccontextmanager
async def stopped(world: World, number: signal.Signals) -> AsyncIterator[None]:
    """Stop the store when the block begins, and bring it back after the block."""
    if number is signal.SIGKILL:
        async with world.store.away():
            yield
        return
    pid = world.store.current.pid
    os.kill(pid, number)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_submissions_that_wait_as_the_store_stops_are_refused_within_seconds(
    world: World, number: signal.Signals, report: Report
) -> None:
    keys = [f"{number.name}-{index}" for index in range(20)]
    async with stopped(world, number):
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


async def test_the_history_has_no_violations(world: World) -> None:
    """Check the whole history, after all other tests of this module."""
    assert await world.verdict(slots=4) == []

"""The broker or the store is away for a while: who says so, what still works, and that it goes on by itself."""

import asyncio
import contextlib
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
from harness import stage, token_of, until

COURSE = COURSES[0]


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    directory: Path = tmp_path_factory.mktemp("world")
    async with World.open(directory, graders=1, health_files=True) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("exit", "0")]})
        yield world


@contextlib.asynccontextmanager
async def meanwhile(fault: Awaitable[Any]) -> AsyncIterator[None]:
    """A fault that takes its time while the block runs, and is over after it."""
    task = asyncio.ensure_future(fault)
    try:
        yield
    finally:
        await task


async def readiness(world: World) -> tuple[int, dict[str, Any]]:
    answer = await world.client.http.get("/readyz")
    told: dict[str, Any] = answer.json()
    return answer.status_code, told


async def away(world: World, part: str) -> tuple[int, dict[str, Any]]:
    """What the API says once it knows that a part is away."""

    async def is_known() -> Any:
        status, told = await readiness(world)
        return (status, told) if not told[part] else None

    found: tuple[int, dict[str, Any]] = await until(is_known, within=20)
    return found


async def submit(world: World) -> tuple[httpx2.Response, float]:
    """One try; the answer and how long it took."""
    begun = time.monotonic()
    answer = await world.client.http.post(
        f"/api/v1/grading_run/{COURSE}/mp1",
        json={"students_env": [{"STUDENT_ID": "s1"}]},
        headers={"Authorization": f"Bearer {token_of(COURSE)}"},
    )
    return answer, time.monotonic() - begun


def said(world: World, role: str) -> str:
    return (world.directory / f"{role}.health").read_text()


FAULTS: dict[str, tuple[str, Callable[[Rabbit], Awaitable[None]]]] = {
    "frozen": ("the broker frozen for 12 s", lambda rabbit: rabbit.server.freeze(12)),
    "alarm": ("a memory alarm of the broker", lambda rabbit: rabbit.alarm(15)),
    "disk alarm": ("a disk alarm of the broker", lambda rabbit: rabbit.disk_alarm(15)),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_the_broker_submissions_are_accepted_and_run_later(
    world: World, fault: str, report: Report
) -> None:
    what, strike = FAULTS[fault]
    async with meanwhile(strike(world.rabbit)):
        status, told = await away(world, "broker")
        assert (status, told["ready"], told["store"]) == (200, True, True)
        since = datetime.fromisoformat(told["away"]["broker"]["since"])
        assert timedelta(0) <= datetime.now(UTC) - since < timedelta(seconds=20)
        await until(lambda: '"broker": false' in said(world, "results-1"), within=20)
        answer, took = await submit(world)
        assert answer.status_code == 200
        assert took < 1
    run_id = answer.json()["data"]["grading_run_id"]
    await world.are_complete([run_id], within=90)
    await until(lambda: '"ready": true' in said(world, "results-1"), within=60)
    report.row(f"away, {fault}", what, f"a submission was answered in {took * 1000:.0f} ms and ran later", "nothing")


async def test_without_the_store_nothing_is_accepted_and_that_is_said_at_once(world: World, report: Report) -> None:
    async with meanwhile(world.store.freeze(15)):
        status, told = await away(world, "store")
        assert (status, told["ready"]) == (503, False)
        answer, took = await submit(world)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert took < 0.2
        await until(lambda: '"store": false' in said(world, "dispatcher-1"), within=20)

    async def is_back() -> bool:
        return (await readiness(world))[0] == 200

    await until(is_back, within=60)
    accepted = await world.submit(COURSE, "mp1", 3, key="after")
    await world.are_complete([accepted], within=60)
    report.row("away, store", "the store frozen for 15 s", f"503 with Retry-After in {took * 1000:.0f} ms", "nothing")


async def test_nothing_went_wrong(world: World) -> None:
    """Runs after all of them."""
    assert await world.verdict(slots=4) == []

"""Watchers of one process, without a broker or a store."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from harness import PATIENCE

from broadway.domain.job import Job, JobClass, Outcome, Phase
from broadway.domain.waiting import WaitingKey
from broadway.ingest.live.feed import Feed, Watcher
from broadway.messages.events import JobSettled, JobStarted

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Waiting:
    """The waiting jobs of one course, in this order."""

    def __init__(self, *job_ids: str) -> None:
        self._ids = job_ids

    async def get_many(self, job_ids: Sequence[str]) -> dict[str, Job]:
        return {job_id: waiting(job_id) for job_id in job_ids}

    async def waiting_in_course(self, _course: str) -> list[WaitingKey]:
        return [(True, NOW, index, job_id) for index, job_id in enumerate(self._ids)]

    async def waiting_in_run(self, _run_id: str) -> list[WaitingKey]:
        return []


def waiting(job_id: str) -> Job:
    return Job(
        id=job_id,
        run_id="run",
        course="cs241",
        assignment="mp1",
        phase=Phase.STUDENTS,
        index=0,
        job_class=JobClass.BULK,
        pool="default",
        queued_at=NOW,
    )


def started(job_id: str) -> JobStarted:
    return JobStarted(
        course="cs241",
        generation=1,
        run_id="run",
        job_id=job_id,
        execution_id=f"execution-{job_id}",
        grader_id="grader",
        started_at=NOW,
    )


def slow_write() -> None:
    time.sleep(0.01)


async def test_a_position_that_changes_during_a_pause_is_reported_after_it() -> None:
    feed = Feed(Waiting("a", "b", "c", "mine"))

    async def between() -> None:
        """Start a job after the first round's pause has begun and before the second's, which this prolongs."""
        await feed.hear(started("c"))
        slow_write()

    async with feed.watch(waiting("mine")) as watcher:
        asyncio.get_running_loop().call_soon(slow_write)
        await feed.hear(started("a"))
        follower = asyncio.create_task(between())
        await feed.hear(started("b"))
        await follower

        async with asyncio.timeout(PATIENCE):
            assert [await watcher.next() for _ in range(3)] == [2, 1, 0]


def settled(job_id: str, outcome: Outcome, *, seconds: float) -> JobSettled:
    fields = {"course": "cs241", "generation": 1, "run_id": "run", "job_id": job_id, "phase": Phase.STUDENTS}
    return JobSettled.model_validate({**fields, "outcome": outcome, "seconds": seconds})


async def seen(watcher: Watcher) -> list[int | str]:
    updates = []
    async with asyncio.timeout(PATIENCE):
        while (update := await watcher.next()) is not None:
            updates.append(update)
    return updates


async def test_a_job_without_a_published_start_has_started_before_it_ends() -> None:
    feed = Feed(Waiting("a", "mine"))
    async with feed.watch(waiting("mine")) as watcher:
        await feed.hear(settled("a", Outcome.SUCCEEDED, seconds=0.05))
        await feed.hear(settled("mine", Outcome.FAILED, seconds=0.05))
        assert await seen(watcher) == [0, "STARTED", "FAILED"]


async def test_a_job_that_no_grader_has_run_ends_without_a_start() -> None:
    feed = Feed(Waiting("mine"))
    async with feed.watch(waiting("mine")) as watcher:
        await feed.hear(settled("mine", Outcome.CANCELLED, seconds=0))
        assert await seen(watcher) == ["FAILED"]

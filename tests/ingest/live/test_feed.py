"""Watchers of one process, without a broker or a store."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from harness import PATIENCE

from broadway.domain.job import Job, JobClass, Outcome, Phase
from broadway.domain.waiting import WaitingKey
from broadway.ingest.live import feed as module
from broadway.ingest.live.feed import Feed, Watcher
from broadway.messages.events import JobSettled, JobStarted
from broadway.service import background

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Waiting:
    """The waiting jobs of one course, in this order."""

    def __init__(self, *job_ids: str) -> None:
        self._ids = job_ids
        self.begun: set[str] = set()

    async def get_many(self, job_ids: Sequence[str]) -> dict[str, Job]:
        return {job_id: waiting(job_id, has_started=job_id in self.begun) for job_id in job_ids}

    async def waiting_in_course(self, _course: str) -> list[WaitingKey]:
        return [(True, NOW, index, job_id) for index, job_id in enumerate(self._ids)]

    async def waiting_in_run(self, _run_id: str) -> list[WaitingKey]:
        return []


def waiting(job_id: str, *, has_started: bool = False) -> Job:
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
        started_at=NOW if has_started else None,
    )


def settled(job_id: str, outcome: Outcome, *, seconds: float = 0.0) -> JobSettled:
    ids = {"course": "cs241", "generation": 1, "run_id": "run", "job_id": job_id}
    return JobSettled(**ids, phase=Phase.STUDENTS, outcome=outcome, seconds=seconds)


async def updates(watcher: Watcher) -> list[int | str]:
    async with asyncio.timeout(PATIENCE):
        return [update async for update in _updates(watcher)]


async def _updates(watcher: Watcher) -> AsyncIterator[int | str]:
    while (update := await watcher.next()) is not None:
        yield update


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

    async with background(feed.follow()), feed.watch(waiting("mine")) as watcher:
        asyncio.get_running_loop().call_soon(slow_write)
        await feed.hear(started("a"))
        follower = asyncio.create_task(between())
        await feed.hear(started("b"))
        await follower

        async with asyncio.timeout(PATIENCE):
            assert [await watcher.next() for _ in range(3)] == [2, 1, 0]


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (settled("mine", Outcome.SUCCEEDED), ["STARTED", "FINISHED"]),
        (settled("mine", Outcome.TIMED_OUT), ["STARTED", "FAILED"]),
        (settled("mine", Outcome.CANCELLED, seconds=1), ["STARTED", "FAILED"]),
        (settled("mine", Outcome.CANCELLED), ["FAILED"]),
    ],
    ids=["succeeded", "timed out", "cancelled while it ran", "cancelled before"],
)
async def test_the_start_of_a_job_is_reported_before_its_end(fact: JobSettled, expected: list[str]) -> None:
    feed = Feed(Waiting("mine"))
    async with background(feed.follow()), feed.watch(waiting("mine")) as watcher:
        await feed.hear(fact)
        assert [update for update in await updates(watcher) if isinstance(update, str)] == expected


async def test_events_arrive_only_while_jobs_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNWATCHED", 0.02)
    monkeypatch.setattr(module, "EVENT_LAG", timedelta())
    feed = Feed(Waiting("mine"))
    asked = asyncio.create_task(feed.until_watched())
    await asyncio.sleep(0)
    assert not asked.done()
    end = asyncio.Event()
    watching = asyncio.create_task(_watch(feed, end))
    await asked
    following = asyncio.create_task(feed.follow())
    end.set()
    await watching
    async with asyncio.timeout(PATIENCE):
        await following
    again = asyncio.create_task(feed.until_watched())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()


async def _watch(feed: Feed, end: asyncio.Event) -> None:
    async with feed.watch(waiting("mine")):
        await end.wait()


@pytest.mark.parametrize(("had_started", "expected"), [(False, ["STARTED", "FINISHED"]), (True, ["FINISHED"])])
async def test_the_first_watcher_gets_a_start_from_the_time_without_events(
    *, had_started: bool, expected: list[str]
) -> None:
    jobs = Waiting("mine")
    feed = Feed(jobs)

    async def listen() -> None:
        await feed.until_watched()
        jobs.begun.add("mine")
        await feed.follow()

    async with background(listen()), feed.watch(waiting("mine", has_started=had_started)) as watcher:
        await feed.hear(settled("mine", Outcome.SUCCEEDED))
        assert await updates(watcher) == expected


async def test_a_start_whose_event_came_before_the_queue_is_found_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVENT_LAG", timedelta(seconds=0.02))
    jobs = Waiting("mine")
    feed = Feed(jobs)
    async with background(feed.follow()), feed.watch(waiting("mine")) as watcher:
        jobs.begun.add("mine")  # by another process, which has read its event
        async with asyncio.timeout(PATIENCE):
            assert await watcher.next() == "STARTED"

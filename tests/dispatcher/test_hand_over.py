"""Jobs that are handed over: not what has moved on, and not beside the messages of an earlier dispatcher."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broadway.dispatcher.board import Board
from broadway.dispatcher.hand_over import HandOver
from broadway.domain.job import Job, JobClass, JobState, Phase
from broadway.messages.events import Event
from broadway.messages.ticket import Tickets
from broadway.messages.topology import Exchange, Queue, ready_queue
from broadway.ports import PublishError

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def job(name: str) -> Job:
    return Job(
        id=name,
        run_id="run",
        course="cs1",
        assignment="mp1",
        phase=Phase.STUDENTS,
        index=0,
        job_class=JobClass.BULK,
        pool="default",
        queued_at=T0,
    )


@dataclass
class Deployment:
    """The stored jobs, and a broker that notes what it is asked to do and may be away."""

    stored: dict[str, Job]
    done: list[str] = field(default_factory=list)
    is_away: bool = False

    async def with_stages(self, job_ids: Sequence[str]) -> dict[str, tuple[Job, list[dict[str, Any]]]]:
        return {name: (self.stored[name], []) for name in job_ids if name in self.stored}

    async def purge(self, queue: Queue) -> int:
        if self.is_away:
            raise PublishError("away", unknown=False)
        self.done.append(f"purge {queue.name}")
        await asyncio.sleep(0)
        return 1

    async def publish(self, _: Exchange, key: str, event: Event) -> None:
        if self.is_away:
            raise PublishError("away", unknown=False)
        self.done.append(f"{key} {event.job_id}")  # type: ignore[attr-defined]


def handing(there: Deployment) -> tuple[Board, HandOver]:
    board = Board()
    for stored in there.stored.values():
        board.keep(stored)
    return board, HandOver(board, there, there, Tickets(b"key"))


async def test_what_an_earlier_dispatcher_left_is_discarded_once_before_the_first_job_of_a_pool() -> None:
    there = Deployment({"j1": job("j1"), "j2": job("j2")})
    board, hand_over = handing(there)
    for _ in there.stored:
        held = board.pick("default")
        assert held
        await hand_over.publish([held.job_id], "default")
        board.start(held.job_id, 1, "e1", now=T0)

    assert there.done == [f"purge {ready_queue('default').name}", "ready.default j1", "ready.default j2"]


async def test_two_that_hand_over_at_once_discard_nothing_of_each_other() -> None:
    there = Deployment({"j1": job("j1"), "j2": job("j2")})
    _, hand_over = handing(there)
    for name in there.stored:
        hand_over.board.keep(replace(job(name), state=JobState.DISPATCHED))

    await asyncio.gather(*(hand_over.publish([name], "default") for name in there.stored))

    assert there.done == [f"purge {ready_queue('default').name}", "ready.default j1", "ready.default j2"]


async def test_nothing_is_handed_over_while_the_queue_cannot_be_emptied() -> None:
    there = Deployment({"j1": job("j1")}, is_away=True)
    board, hand_over = handing(there)
    assert board.pick("default")
    with pytest.raises(PublishError):
        await hand_over.publish(["j1"], "default")

    there.is_away = False
    await hand_over.publish(["j1"], "default")
    assert there.done == [f"purge {ready_queue('default').name}", "ready.default j1"]


@pytest.mark.parametrize(
    "changes",
    [
        {"state": JobState.FINISHED},
        {"state": JobState.RUNNING},
        {"not_before": datetime.max.replace(tzinfo=UTC) - timedelta(days=1)},
        {"generation": 2},
    ],
    ids=["finished", "running", "paused", "rerun"],
)
async def test_a_job_that_has_moved_on_since_it_was_read_is_not_handed_over(changes: dict[str, Any]) -> None:
    there = Deployment({"j1": job("j1")})
    board, hand_over = handing(there)
    assert board.pick("default")
    there.stored["j1"] = replace(job("j1"), revision=1, **changes)

    await hand_over.publish(["j1"], "default")

    assert there.done == [f"purge {ready_queue('default').name}"]
    assert board.held["j1"].revision == 1


async def test_a_job_that_is_missing_in_the_store_settles() -> None:
    there = Deployment({"j1": job("j1")})
    board, hand_over = handing(there)
    assert board.pick("default")
    there.stored.clear()

    await hand_over.publish(["j1"], "default")

    assert board.held["j1"].settled.is_set()

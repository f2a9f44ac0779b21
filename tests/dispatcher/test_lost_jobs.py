"""Queued jobs that are in no queue: which are found, and how often the backlogs are counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from harness import until

from broadway.dispatcher.board import Board
from broadway.dispatcher.lost_jobs import DEEP, LostJobs
from broadway.dispatcher.patience import PATIENCE, Patience
from broadway.dispatcher.ports import Reading
from broadway.domain.job import Job, JobClass, JobState, Phase
from broadway.domain.run import RunState
from broadway.messages.batches import JobsQueued, parts_of
from broadway.messages.events import Event
from broadway.messages.topology import Exchange, Queue

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
COURSE = [("cs1", JobClass.BULK)]
IMPATIENT = Patience(second_look=0.0, busy=0.0)


def queued(name: str, run: str = "r1") -> Job:
    return Job(
        id=name,
        run_id=run,
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
    """The stored jobs, the messages of one course's queue, and those that were opened. All ports in one fake."""

    stored: list[Job] = field(default_factory=list)
    messages: int = 0
    arrived: Reading = field(default_factory=lambda: Reading(epoch=1))
    publishing: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    counts: int = 0

    async def unpublished(self, _: datetime, *, limit: int) -> list[Any]:
        return [SimpleNamespace(id=run, course="cs1") for run in self.publishing][:limit]

    async def summary(self, _: str) -> Any:
        return SimpleNamespace(state=RunState.STUDENTS, phase=Phase.STUDENTS)

    async def count_queued(self, *_: Any, unless_of: Sequence[str] = ()) -> int:
        self.counts += 1
        return sum(job.run_id not in unless_of for job in self.stored)

    async def queued(self, *_: Any, limit: int, unless_of: Sequence[str] = ()) -> list[Job]:
        return [job for job in self.stored if job.run_id not in unless_of][:limit]

    async def move(self, _: Any) -> dict[str, Any]:
        return {}

    async def depth(self, _: Queue) -> int:
        return self.messages

    def reading(self, *_: Any) -> Reading:
        return self.arrived

    async def publish(self, _: Exchange, __: str, event: Event) -> None:
        self.published += [part.job_id for part in parts_of(event)]  # type: ignore[attr-defined]


def search(everything: Any, patience: Patience = IMPATIENT, *held: Job) -> LostJobs:
    board = Board()
    for job in held:
        board.keep(job)
    return LostJobs(board, everything, everything, everything, everything, patience)


async def test_jobs_beyond_those_that_the_messages_can_have_are_lost() -> None:
    jobs = [queued(f"j{number}") for number in range(JobsQueued.most + 2)]
    there = Deployment(jobs, messages=1)
    looking = search(there, IMPATIENT, jobs[0])

    await looking.find(COURSE)
    assert there.published == [], "a message may be on its way"

    await looking.find(COURSE)
    assert there.published == [job.id for job in jobs[1:]]


@pytest.mark.parametrize("messages", [0, 1])
async def test_nothing_is_lost_while_all_jobs_are_held_or_may_be_in_messages(messages: int) -> None:
    jobs = [queued(f"j{number}") for number in range(JobsQueued.most * messages + 2)]
    there = Deployment(jobs, arrived=Reading(epoch=1, unopened=messages))
    looking = search(there, IMPATIENT, *jobs[:2])

    for _ in range(3):
        await looking.find(COURSE)

    assert there.published == []


async def test_a_job_is_lost_once_all_messages_that_may_have_it_are_opened() -> None:
    """A course's queue may never be empty, and each of its messages could have fifty jobs."""
    there = Deployment([queued("lost"), queued("held")], messages=3, arrived=Reading(epoch=1, opened=10, unopened=2))
    looking = search(there, IMPATIENT, queued("held"))
    await looking.find(COURSE)

    there.arrived = Reading(epoch=1, opened=14, unopened=2)
    await looking.find(COURSE)
    await looking.find(COURSE)
    assert there.published == []

    there.stored.append(replace(queued("new"), queued_at=datetime.now(UTC)))
    there.arrived = Reading(epoch=1, opened=15, unopened=2)
    await looking.find(COURSE)
    await looking.find(COURSE)
    assert there.published == ["lost"], "the new job may be in a message that waits"


async def test_messages_are_counted_anew_for_a_new_consumer() -> None:
    """The broker delivers the messages of the last consumer again, so they would count twice."""
    there = Deployment([queued("waits")], messages=1, arrived=Reading(epoch=1, opened=1))
    looking = search(there)
    await looking.find(COURSE)

    there.arrived = Reading(epoch=2, opened=2)
    for _ in range(3):
        await looking.find(COURSE)

    assert there.published == []


async def test_a_job_in_flight_whose_dispatch_is_stored_does_not_hide_a_lost_one() -> None:
    there = Deployment([queued("lost")])
    looking = search(there, IMPATIENT, replace(queued("flies"), state=JobState.DISPATCHED))

    for _ in range(2):
        await looking.find(COURSE)

    assert there.published == ["lost"]


async def test_a_lost_job_is_found_although_a_run_is_always_being_published() -> None:
    there = Deployment([queued("old", "r1"), queued("new", "r2")], publishing=["r2"])
    looking = search(there, Patience(second_look=0.0, busy=0.2))
    for _ in range(3):
        await looking.find(COURSE)
    assert there.published == []

    async def is_found() -> bool:
        await looking.find(COURSE)
        return bool(there.published)

    await until(is_found)
    assert there.published == ["old"]


async def test_a_course_with_many_jobs_is_counted_rarely() -> None:
    there = Deployment([queued(f"j{number}") for number in range(DEEP + 1)], messages=DEEP)
    looking = search(there, PATIENCE)
    for _ in range(3):
        await looking.find(COURSE)
    assert there.counts == 1

    looking.patience = Patience(busy=0.0, dispatch=timedelta(0))
    await looking.find(COURSE)
    assert there.counts == 2
    assert there.published == []

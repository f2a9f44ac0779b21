"""Settled jobs of a batch: which are followed at once."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from broadway.dispatcher.board import Board
from broadway.dispatcher.follow import Follower
from broadway.domain.job import Job, JobClass, Outcome, Phase
from broadway.messages.events import JobReleased, JobSettled, ids_of

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Progress:
    """The runs whose next step was asked for."""

    asked: list[str] = field(default_factory=list)

    async def submit(self, item: str) -> None:
        self.asked.append(item)


def held(board: Board, *names: str) -> list[Job]:
    jobs = [
        Job(
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
        for name in names
    ]
    for job in jobs:
        board.keep(job)
    return jobs


def settled(job: Job) -> JobSettled:
    return JobSettled(**ids_of(job), phase=job.phase, outcome=Outcome.SUCCEEDED, seconds=1)


async def test_only_the_last_settled_job_of_a_run_asks_for_the_next_step() -> None:
    nothing: Any = None
    board, progress = Board(), Progress()
    follower = Follower(board, progress, nothing)
    first, last = held(board, "j1", "j2")

    assert follower.follow_at_once(settled(first))
    assert board.held["j1"].settled.is_set()
    assert not follower.follow_at_once(settled(last))
    assert not board.held["j2"].settled.is_set()
    await follower.follow(settled(last))
    assert progress.asked == ["run"]


async def test_other_facts_are_followed_by_the_handler() -> None:
    nothing: Any = None
    board = Board()
    (job, _) = held(board, "j1", "j2")
    released = JobReleased(**ids_of(job), execution_id="e1", grader_id="g1", released_at=T0)

    assert not Follower(board, Progress(), nothing).follow_at_once(released)

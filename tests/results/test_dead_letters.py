"""A dead letter ends the jobs that nothing else would end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from outcomes import T0, job, outcome

from broadway.domain.job import Attempt, Job, JobClass, JobState, Outcome, Phase
from broadway.domain.moves import Move, Moved
from broadway.messages.batches import JobsFinished
from broadway.messages.envelope import decode_dead_letter, encode
from broadway.messages.events import DeadLetter, Event
from broadway.messages.topology import Exchange, Queue
from broadway.results.dead_letters import file_dead_letter


@dataclass
class Desk:
    """Jobs, letters and facts in memory."""

    jobs: dict[str, Job] = field(default_factory=dict)
    letters: list[str] = field(default_factory=list)
    facts: list[Event] = field(default_factory=list)

    async def move(self, moves: Mapping[str, Move], **_: Any) -> dict[str, Moved]:
        moved = {
            job_id: Moved(self.jobs[job_id], move(self.jobs[job_id]))
            for job_id, move in moves.items()
            if job_id in self.jobs
        }
        self.jobs |= {job_id: change.after for job_id, change in moved.items()}
        return moved

    async def put(self, *, message_id: str, **_: Any) -> None:
        self.letters.append(message_id)

    async def publish(self, _exchange: Exchange, _key: str, event: Event) -> None:
        self.facts.append(event)

    async def declare(self, *_: Queue) -> None: ...


def stored(job_id: str, **more: Any) -> Job:
    base = Job(
        id=job_id,
        run_id="r1",
        course="cs1",
        assignment="mp1",
        phase=Phase.STUDENTS,
        index=0,
        job_class=JobClass.BULK,
        pool="default",
        queued_at=T0,
    )
    return replace(base, **more)


def running(execution_id: str) -> Callable[[Job], Job]:
    attempts = (Attempt(execution_id, "g1", T0),)
    return lambda job: replace(job, state=JobState.RUNNING, execution_id=execution_id, attempts=attempts)


def letter(event: Event, sender: str = "broadway") -> DeadLetter:
    wire = encode(event, source="/broadway/test")
    death = [{"queue": "broadway.results", "reason": "delivery_limit"}]
    return decode_dead_letter({**wire.headers, "x-death": death}, wire.body, sender)


async def filed(desk: Desk, dead: DeadLetter) -> dict[str, Outcome | None]:
    await file_dead_letter(dead, jobs=desk, letters=desk, publisher=desk)
    return {job_id: job.outcome for job_id, job in desk.jobs.items()}


async def test_a_batch_that_the_broker_has_given_up_ends_each_of_its_jobs() -> None:
    desk = Desk({name: running("e1")(stored(name)) for name in ("j1", "j2", "j3")})
    batch = JobsFinished(parts=[outcome("j1"), outcome("j2")])

    error = Outcome.INFRASTRUCTURE_ERROR
    assert await filed(desk, letter(batch)) == {"j1": error, "j2": error, "j3": None}
    assert desk.letters == [batch.identity]
    assert [fact.subject for fact in desk.facts] == ["cs1/r1/j1", "cs1/r1/j2"]


async def test_a_graders_batch_ends_no_job() -> None:
    desk = Desk({"j1": running("e1")(stored("j1"))})
    batch = JobsFinished(parts=[outcome("j1"), outcome("j2")])

    assert await filed(desk, letter(batch, "broadway-grader-g1")) == {"j1": None}


@pytest.mark.parametrize(
    ("present", "event", "ends"),
    [
        (stored("j1"), outcome("j1"), True),
        (stored("j1"), job("j1"), True),
        (stored("j1"), outcome("j1", generation=2), False),
        (running("e1")(stored("j1")), outcome("j1"), True),
        (running("e2")(stored("j1")), outcome("j1"), False),
        (stored("j1", attempts=(Attempt("e1", "g1", T0, ended_at=T0),)), outcome("j1"), False),
        (running("e1")(stored("j1")), job("j1", generation=2), False),
        (running("e1")(stored("j1")), outcome("j1").model_copy(update={"outcome": Outcome.CANCELLED}), False),
    ],
    ids=[
        *("start not recorded", "job", "other generation", "running", "elsewhere", "earlier execution", "other job"),
        "cancelled",
    ],
)
async def test_only_the_execution_that_a_job_waits_for_ends_it(present: Job, event: Event, ends: bool) -> None:
    desk = Desk({"j1": present})

    assert await filed(desk, letter(event)) == {"j1": Outcome.INFRASTRUCTURE_ERROR if ends else None}

"""The jobs of a large run are stored after its submission is answered, whatever happens to the run meanwhile."""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import pytest
from harness import stage

from broadway.domain.job import JobState, Outcome, Phase
from broadway.domain.run import Run, RunState
from broadway.lifecycle import announce, phases
from broadway.lifecycle.announce import Announcements, Announcer
from broadway.lifecycle.orders import Orders
from broadway.lifecycle.phases import advance, begin
from broadway.lifecycle.steps import Step
from broadway.messages.batches import Batch
from broadway.messages.envelope import Event
from broadway.messages.events import JobQueued
from broadway.messages.topology import Exchange
from broadway.mongo.store import Store

STUDENTS = 12


@dataclass
class Published:
    """A publisher that keeps events."""

    events: list[Event] = field(default_factory=list)

    async def publish(self, exchange: Exchange, key: str, event: Event) -> None:  # noqa: ARG002
        self.events.append(event)

    @property
    def queued(self) -> list[str]:
        events = [part for event in self.events for part in (event.parts if isinstance(event, Batch) else [event])]
        return [event.job_id for event in events if isinstance(event, JobQueued)]


@dataclass
class Desk:
    """Steps and orders whose background work waits until a test does it."""

    store: Store
    published: Published = field(default_factory=Published)
    waiting: list[Coroutine[Any, Any, None]] = field(default_factory=list)

    @property
    def announcements(self) -> Announcements:
        announcer = Announcer(runs=self.store.runs, jobs=self.store.jobs, publisher=self.published)
        return Announcements(announcer, self.published, self.waiting.append)

    @property
    def orders(self) -> Orders:
        return Orders(self.store.runs, self.store.jobs, self.announcements)

    async def do(self) -> None:
        """Do the waiting work, and the work that it adds."""
        while self.waiting:
            await self.waiting.pop(0)

    async def begin(self, run: Run) -> Step:
        step = await begin(run, runs=self.store.runs, jobs=self.store.jobs)
        assert step is not None
        self.announcements.step(step)
        return step


@pytest.fixture
async def desk(store: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(phases, "AT_ONCE", STUDENTS - 1)
    monkeypatch.setattr(announce, "STORED", 5)
    desk = Desk(store)
    yield desk
    for coroutine in desk.waiting:
        coroutine.close()


def a_run(course: str, students: int = STUDENTS) -> Run:
    roster = [{"STUDENT_ID": f"s{number}"} for number in range(students)]
    return Run(token_hex(12), course, "mp1", RunState.READY, datetime.now(UTC), {"student_pipeline": [stage()]}, roster)


async def test_jobs_are_stored_and_published_after_the_answer(desk: Desk, course: str) -> None:
    run = a_run(course)

    await desk.begin(run)
    assert await desk.store.jobs.of_run(run.id) == []
    await desk.do()

    jobs = await desk.store.jobs.of_run(run.id)
    assert [job.index for job in jobs] == list(range(STUDENTS))
    assert desk.published.queued == [job.id for job in jobs]
    stored = await desk.store.runs.summary(run.id)
    assert stored is not None
    assert (stored.state, stored.publish_at) == (RunState.STUDENTS, None)


async def test_jobs_of_a_smaller_run_are_stored_before_the_answer(desk: Desk, course: str) -> None:
    run = a_run(course, STUDENTS - 1)

    await desk.begin(run)

    assert len(await desk.store.jobs.of_run(run.id)) == STUDENTS - 1


async def test_other_processes_leave_the_jobs_to_the_one_that_stored_the_run(desk: Desk, course: str) -> None:
    run = a_run(course)
    await desk.begin(run)

    assert await advance(run.id, runs=desk.store.runs, jobs=desk.store.jobs) is None

    assert await desk.store.jobs.of_run(run.id) == []


async def test_a_run_that_is_cancelled_meanwhile_ends_with_all_its_jobs(desk: Desk, course: str) -> None:
    run = a_run(course)
    await desk.begin(run)
    storing = desk.waiting.pop()

    await desk.orders.cancel(run.id, reason="not needed")
    await desk.do()
    await storing

    jobs = await desk.store.jobs.of_run(run.id)
    assert [job.outcome for job in jobs] == [Outcome.CANCELLED] * STUDENTS
    stored = await desk.store.runs.summary(run.id)
    assert stored is not None
    assert stored.state is RunState.FAILED


async def test_a_run_that_is_rerun_meanwhile_has_all_its_jobs(desk: Desk, course: str) -> None:
    """The order names the jobs that are stored by then, and the others must not be forgotten."""
    run = a_run(course)
    step = await desk.begin(run)
    storing = desk.waiting.pop()
    planned = phases.plan_jobs(step.run, Phase.STUDENTS, run.started_at)
    await desk.store.jobs.insert(planned[:3])

    await desk.orders.run_again(run.id, only=None, failed=False, check=lambda _: None)
    await desk.do()
    await storing

    jobs = await desk.store.jobs.of_run(run.id)
    assert [job.state for job in jobs] == [JobState.QUEUED] * STUDENTS
    assert set(desk.published.queued) == {job.id for job in jobs}

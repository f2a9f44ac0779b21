"""Orders for runs of many jobs: stored and answered at once, then carried out in batches."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest
from earlier_jobs import dispatched
from harness import stage, until

from broadway.dispatcher.board import Board
from broadway.dispatcher.dispatch import Dispatch
from broadway.dispatcher.hand_over import HandOver
from broadway.domain.job import Attempt, Job, JobState, Outcome, Phase, RetryPolicy
from broadway.domain.run import JobOutline, OrderKind, Run, RunState, plan_jobs
from broadway.lifecycle.announce import Announcements, Announcer
from broadway.lifecycle.carrying_out import BATCH, GRACE, carry_out
from broadway.lifecycle.orders import IsOverError, Ordered, Orders, RunIsBusyError
from broadway.messages.batches import parts_of
from broadway.messages.events import CancelJob, Event, JobDispatched, JobQueued, JobSettled
from broadway.messages.ticket import Tickets
from broadway.messages.topology import Exchange, Queue
from broadway.mongo.store import Store

MANY = 2 * BATCH + 10


@dataclass
class Published:
    """A broker that remembers the events, and calls ``on_publish`` for each."""

    events: list[Event] = field(default_factory=list)

    async def publish(self, _: Exchange, __: str, event: Event) -> None:
        self.events.append(event)

    async def purge(self, _: Queue) -> int:
        return 0

    def of(self, kind: type[Event]) -> list[Any]:
        return [part for event in self.events for part in parts_of(event) if isinstance(part, kind)]


@dataclass
class Desk:
    """Orders whose background work waits until a test does it."""

    store: Store
    published: Published = field(default_factory=Published)
    waiting: list[Coroutine[Any, Any, None]] = field(default_factory=list)

    @property
    def orders(self) -> Orders:
        announcer = Announcer(runs=self.store.runs, jobs=self.store.jobs, publisher=self.published)
        return Orders(self.store.runs, self.store.jobs, Announcements(announcer, self.published, self.waiting.append))

    async def do(self) -> None:
        """Do the waiting work, and the work that it adds."""
        while self.waiting:
            await self.waiting.pop(0)

    async def rerun(self, run: Run) -> Ordered:
        return await self.orders.run_again(run.id, only=None, failed=False, check=lambda _: None)


@pytest.fixture
async def desk(store: Store) -> Any:
    desk = Desk(store)
    yield desk
    for coroutine in desk.waiting:
        coroutine.close()


async def stored_run(store: Store, course: str, *, students: int = MANY) -> Run:
    now = datetime.now(UTC)
    roster = [{"STUDENT_ID": f"s{number}"} for number in range(students)]
    run = Run(token_hex(12), course, "mp1", RunState.STUDENTS, now, {"student_pipeline": [stage()]}, roster)
    assert await store.runs.insert(run)
    await store.jobs.insert(plan_jobs(run, Phase.STUDENTS, now))
    return run


def started(job: Job) -> Job:
    now = datetime.now(UTC)
    attempt = Attempt(token_hex(8), "g1", now)
    return dispatched(job, now).start(attempt, lease=timedelta(minutes=1), policy=RetryPolicy(), now=now)


async def open_jobs(store: Store, run: Run) -> list[JobOutline]:
    return [job for job in await store.jobs.outlines_of_run(run.id) if job.is_open]


async def present(store: Store, run: Run) -> Run:
    found = await store.runs.summary(run.id)
    assert found is not None
    return found


async def test_a_cancellation_of_many_jobs_is_answered_before_they_end(desk: Desk, store: Store, course: str) -> None:
    run = await stored_run(store, course)

    answer = await desk.orders.cancel(run.id, "wrong tests")
    assert (answer.count, answer.state, answer.round) == (MANY, RunState.STUDENTS, 2)
    assert len(await open_jobs(store, run)) == MANY
    assert (await present(store, run)).order is not None

    await desk.do()
    ended = await store.jobs.of_run(run.id)
    assert {(job.outcome, job.reason) for job in ended} == {(Outcome.CANCELLED, "wrong tests")}
    over = await present(store, run)
    assert (over.state, over.order) == (RunState.FAILED, None)
    assert len(desk.published.of(JobSettled)) == MANY
    with pytest.raises(IsOverError):
        await desk.orders.cancel(run.id, "again")


async def test_an_order_for_few_jobs_is_carried_out_before_its_answer(desk: Desk, store: Store, course: str) -> None:
    run = await stored_run(store, course, students=BATCH)

    answer = await desk.orders.cancel(run.id, "wrong tests")
    assert (answer.count, answer.state) == (BATCH, RunState.FAILED)
    assert await open_jobs(store, run) == []


async def test_running_jobs_of_a_cancelled_run_are_stopped_first(desk: Desk, store: Store, course: str) -> None:
    run = await stored_run(store, course)
    last = (await store.jobs.of_run(run.id))[-1]
    await store.jobs.move({last.id: started})

    await desk.orders.cancel(run.id, "wrong tests")
    await desk.do()
    [stop] = desk.published.of(CancelJob)
    first = [event.job_id for event in desk.published.of(JobSettled)][:BATCH]
    assert stop.job_id == last.id
    assert last.id in first


async def test_no_job_of_a_run_is_handed_out_once_its_cancellation_is_stored(
    desk: Desk, store: Store, course: str
) -> None:
    cancelled, other = await stored_run(store, course), await stored_run(store, course, students=2)
    board, broker = Board(), Published()
    for run in (cancelled, other):
        for job in await store.jobs.of_run(run.id):
            board.keep(job)
    await desk.orders.cancel(cancelled.id, "wrong tests")

    dispatch = asyncio.create_task(
        Dispatch(board, store.runs, HandOver(board, store.jobs, broker, Tickets(b"key"))).run()
    )
    try:
        await until(lambda: bool(broker.events) and not board.changed.is_set())
    finally:
        dispatch.cancel()
        await asyncio.wait([dispatch])
    handed_out = broker.of(JobDispatched)
    assert handed_out, "the other run goes on"
    assert {event.run_id for event in handed_out} == {other.id}
    assert {job.state for job in await store.jobs.of_run(cancelled.id)} == {JobState.QUEUED}


async def test_a_rerun_of_many_jobs_is_answered_at_once_and_publishes_them_at_its_end(
    desk: Desk, store: Store, course: str
) -> None:
    run = await stored_run(store, course)
    await desk.orders.cancel(run.id, "wrong tests")
    await desk.do()

    answer = await desk.rerun(run)
    assert (answer.count, answer.state, answer.round) == (MANY, RunState.STUDENTS, 3)
    assert await open_jobs(store, run) == []
    await desk.do()
    assert {job.state for job in await store.jobs.of_run(run.id)} == {JobState.QUEUED}
    assert [event.job_id for event in desk.published.of(JobQueued)] == list(answer.jobs)
    assert (await present(store, run)).order is None


async def test_a_repeated_cancellation_gets_the_same_answer_and_a_rerun_has_to_wait(
    desk: Desk, store: Store, course: str
) -> None:
    run = await stored_run(store, course)
    first = await desk.orders.cancel(run.id, "wrong tests")

    assert await desk.orders.cancel(run.id, "wrong tests, really") == first
    with pytest.raises(RunIsBusyError, match="earlier order"):
        await desk.rerun(run)
    await desk.do()
    assert {job.reason for job in await store.jobs.of_run(run.id)} == {"wrong tests"}


async def test_a_cancellation_ends_a_rerun_that_is_under_way(desk: Desk, store: Store, course: str) -> None:
    run = await stored_run(store, course)
    await desk.rerun(run)

    await desk.orders.cancel(run.id, "wrong tests")
    await desk.do()
    over = await present(store, run)
    assert (over.state, over.order) == (RunState.FAILED, None)
    assert await open_jobs(store, run) == []
    assert desk.published.of(JobQueued) == []


async def test_an_order_is_taken_over_when_its_process_has_died(desk: Desk, store: Store, course: str) -> None:
    run = await stored_run(store, course)
    await desk.orders.cancel(run.id, "wrong tests")
    dead = await present(store, run)
    assert dead.publish_at is not None
    assert await store.runs.hold_order(dead, dead.publish_at, datetime.now(UTC) - GRACE)
    assert run.id in {due.id for due in await store.runs.unpublished(datetime.now(UTC), limit=1000)}

    for expected in (MANY - BATCH, MANY - 2 * BATCH):
        late = await present(store, run)
        assert late.order is not None
        step = await carry_out(
            late, late.order, runs=store.runs, jobs=store.jobs, publish=desk.orders.announcements.publish, limit=BATCH
        )
        assert (step, len(await open_jobs(store, run))) == (None, expected)
    late = await present(store, run)
    assert late.order is not None
    assert late.order.kind is OrderKind.CANCEL
    assert await carry_out(
        late, late.order, runs=store.runs, jobs=store.jobs, publish=desk.orders.announcements.publish, limit=BATCH
    )
    assert (await present(store, run)).state is RunState.FAILED


async def test_a_process_that_has_lost_its_order_moves_no_job(desk: Desk, store: Store, course: str) -> None:
    run = await stored_run(store, course)
    await desk.orders.cancel(run.id, "wrong tests")
    slow = await present(store, run)
    assert slow.order is not None
    assert slow.publish_at is not None
    overdue = datetime.now(UTC) - GRACE
    assert await store.runs.hold_order(slow, slow.publish_at, overdue)
    assert await store.runs.hold_order(slow, overdue, datetime.now(UTC) + GRACE)

    step = await carry_out(
        replace(slow, publish_at=overdue),
        slow.order,
        runs=store.runs,
        jobs=store.jobs,
        publish=desk.orders.announcements.publish,
    )
    assert step is None
    assert len(await open_jobs(store, run)) == MANY

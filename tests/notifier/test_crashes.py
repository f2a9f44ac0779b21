"""A crash between any two effects: each callback arrives at least once, with one id."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import pytest
from callback_world import World
from crashing import Crash
from harness import stage
from receivers import Receiver

from broadway.domain.callback import CallbackEvent, CallbackType
from broadway.domain.job import Attempt, Execution, Job, Outcome, Phase, RetryPolicy
from broadway.domain.run import Run, RunState, plan_jobs
from broadway.lifecycle.callbacks import Announcing, grades_published
from broadway.lifecycle.phases import advance
from broadway.runtime.crashpoints import CrashPointError, Point

OF_NOTIFIER = [
    Point.CALLBACK_CLAIMED,
    Point.CALLBACK_COMPLETED,
    Point.CALLBACK_DELIVERIES_STORED,
    Point.CALLBACK_EVENT_DONE,
    Point.CALLBACK_TAKEN,
    Point.CALLBACK_SENT,
    Point.CALLBACK_RECORDED,
]
AFTER_A_CRASH = timedelta(seconds=61)


async def started_job(world: World) -> str:
    """Return the id of the only job of a run, which runs."""
    config, roster = {"student_pipeline": [stage()]}, [{"STUDENT_ID": "s1"}]
    run = Run(token_hex(12), world.course, "mp1", RunState.STUDENTS, world.clock(), config, roster)
    (plan,) = plan_jobs(run, Phase.STUDENTS, world.clock())
    await world.store.runs.insert(run)
    await world.store.jobs.insert([plan])
    attempt = Attempt(plan.job.id, "g1", world.clock())
    lease = timedelta(minutes=1)
    await world.store.jobs.move(
        {plan.job.id: lambda job: job.start(attempt, lease=lease, policy=RetryPolicy(), now=world.clock())}
    )
    return plan.job.id


async def finish(world: World, job_id: str) -> None:
    at = world.clock()
    results = [{"scores": {"score": 3.0, "max_score": 4.0}}]
    report = Execution(job_id, "g1", at, at, Outcome.FAILED, reason="exit code 1", results=results)

    def end(job: Job) -> Job:
        return job.finish(report, policy=RetryPolicy(), now=at)

    await world.store.jobs.move({job_id: end})


async def settle(world: World, receiver: Receiver) -> None:
    """Let a new notifier do all that is due, after the leases of a dead one have expired."""
    world.clock.now += AFTER_A_CRASH
    await world.notifier(receiver.port).step()


@pytest.mark.parametrize("point", OF_NOTIFIER)
async def test_a_notifier_that_dies_loses_no_callback(
    world: World, receiver: Receiver, crash: Crash, point: Point
) -> None:
    endpoint = await world.endpoint(receiver.port)
    event = await world.emit()
    job_id = await started_job(world)
    await finish(world, job_id)
    world.clock.forward(seconds=1)
    crash(point)
    with pytest.raises(CrashPointError):
        await world.notifier(receiver.port).step()
    await settle(world, receiver)
    await settle(world, receiver)
    job_event = CallbackEvent.job_finished(world.course, job_id, 1, run_id="", at=world.clock())
    assert set(receiver.ids) == {event.id, job_event.id}
    assert {each.state for each in await world.deliveries(endpoint)} == {"delivered"}
    bodies = {(request.id, request.body) for request in receiver.requests}
    assert len(bodies) == 2


@pytest.mark.parametrize("point", [Point.CALLBACK_STORED, Point.OUTCOME_INSERTED])
async def test_a_job_whose_process_dies_at_its_end_is_reported_once_it_has_ended(
    world: World, receiver: Receiver, crash: Crash, point: Point
) -> None:
    await world.endpoint(receiver.port)
    job_id = await started_job(world)
    crash(point)
    with pytest.raises(CrashPointError):
        await finish(world, job_id)
    await settle(world, receiver)
    if point is Point.CALLBACK_STORED:  # the event is stored, and the job has not ended
        assert receiver.requests == []
        await finish(world, job_id)
        await settle(world, receiver)
    (request,) = receiver.requests
    await settle(world, receiver)
    assert len(receiver.requests) == 1
    data = request.verified((await world.store.callbacks.endpoints.of_course(world.course))[0].secret)["data"]
    assert (data["job"], data["outcome"], data["score"], data["max_score"]) == (job_id, "failed", 3.0, 4.0)
    assert data["url"] == f"/api/v2/courses/{world.course}/jobs/{job_id}"


async def test_a_job_that_is_run_again_is_reported_for_each_generation(world: World, receiver: Receiver) -> None:
    await world.endpoint(receiver.port)
    job_id = await started_job(world)
    await finish(world, job_id)
    await world.store.jobs.move({job_id: lambda job: job.rerun(1, 2, world.clock())})
    await world.store.jobs.move({job_id: lambda job: job.cancel("staff", world.clock())})
    await settle(world, receiver)
    assert len(set(receiver.ids)) == 2


async def test_a_job_that_never_ends_in_its_generation_is_not_reported(
    world: World, receiver: Receiver, crash: Crash
) -> None:
    await world.endpoint(receiver.port)
    job_id = await started_job(world)
    crash(Point.CALLBACK_STORED)
    with pytest.raises(CrashPointError):
        await finish(world, job_id)
    await world.store.jobs.move({job_id: lambda job: job.rerun(1, 2, world.clock())})
    await settle(world, receiver)
    assert receiver.requests == []
    event = CallbackEvent.job_finished(world.course, job_id, 1, run_id="", at=world.clock())
    assert await world.store.callbacks.events.get_many([event.id]) == {}


@pytest.mark.parametrize("point", [None, Point.CALLBACK_STORED, Point.STEP_STORED])
async def test_a_run_is_reported_once_it_has_ended(
    world: World, receiver: Receiver, crash: Crash, point: Point | None
) -> None:
    await world.endpoint(receiver.port, types=(CallbackType.RUN_FINISHED,))
    job_id = await started_job(world)
    await finish(world, job_id)
    run_id = (await world.store.jobs.get_many([job_id]))[job_id].run_id
    if point:
        crash(point)
        with pytest.raises(CrashPointError):
            await advance(run_id, runs=world.store.runs, jobs=world.store.jobs)
        await settle(world, receiver)
        assert len(receiver.requests) == (point is Point.STEP_STORED)
    await advance(run_id, runs=world.store.runs, jobs=world.store.jobs)
    await settle(world, receiver)
    (request,) = receiver.requests
    assert request.id == CallbackEvent.run_finished(world.course, run_id, 1, at=world.clock()).id


async def test_a_course_without_endpoints_stores_nothing(world: World) -> None:
    job_id = await started_job(world)
    await finish(world, job_id)
    event = CallbackEvent.job_finished(world.course, job_id, 1, run_id="", at=world.clock())
    assert await world.store.callbacks.events.get_many([event.id]) == {}


@dataclass(frozen=True)
class Book:
    """A published version of a grade book."""

    course: str
    assignment: str = "mp1"
    version: int = 3
    at: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    by: str = "prof"


@dataclass
class Books:
    """The pointers of grade books, in memory."""

    due: list[Book] = field(default_factory=list)

    async def to_announce(self, *, limit: int) -> list[Book]:
        return self.due[:limit]

    async def announced(self, book: Book) -> None:
        self.due.remove(book)


async def test_a_publication_whose_process_dies_is_announced_by_the_notifier(
    world: World, receiver: Receiver, crash: Crash
) -> None:
    await world.endpoint(receiver.port)
    book = Book(world.course, at=world.clock())
    books = Books([book])
    announcing = Announcing(books, world.store.callbacks.events, grades_published)
    crash(Point.CALLBACK_EMITTED)
    with pytest.raises(CrashPointError):
        await announcing.announce(book)
    for _ in range(2):
        notifier = world.notifier(receiver.port)
        notifier.announcing = [announcing]
        await notifier.step()
    assert books.due == []
    (request,) = receiver.requests
    payload = request.verified((await world.store.callbacks.endpoints.of_course(world.course))[0].secret)
    assert payload["type"] == "grades.published"
    assert (payload["data"]["assignment"], payload["data"]["version"], payload["data"]["by"]) == ("mp1", 3, "prof")

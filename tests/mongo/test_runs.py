"""The run store's conditional updates, and submissions that share their reads and writes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from secrets import token_hex

import pytest
from harness import stage

from broadway.domain.course import Course
from broadway.domain.job import JobState, Outcome, Phase
from broadway.domain.run import Order, OrderKind, Run, RunState, plan_jobs
from broadway.ingest.commands.backlogs import Backlogs
from broadway.ingest.commands.limits import Limits
from broadway.ingest.commands.submit import KeyReusedError, NewRun, NewRuns, RunRequest
from broadway.lifecycle.announce import Hold
from broadway.lifecycle.carrying_out import carry_out
from broadway.lifecycle.follow_ups import Fact
from broadway.lifecycle.phases import advance
from broadway.lifecycle.steps import PUBLISH_GRACE, Step, complete
from broadway.mongo.batched import Batched
from broadway.mongo.runs import RunMove
from broadway.mongo.store import Store

LIMITS = Limits(max_job_seconds=1000)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@contextlib.asynccontextmanager
async def running(shared: Batched) -> AsyncIterator[Batched]:
    task = asyncio.create_task(shared.run())
    try:
        yield shared
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def shared(store: Store) -> AsyncIterator[Batched]:
    async with running(store.shared()) as opened:
        yield opened


async def ignore(_: Sequence[Fact]) -> None:
    """Publish no fact."""


def a_run(course: str, students: int = 1) -> Run:
    config = {"student_pipeline": [stage()]}
    roster = [{"STUDENT_ID": f"s{number}"} for number in range(students)]
    return Run(token_hex(12), course, "mp1", RunState.STUDENTS, NOW, config, roster, publish_at=NOW)


async def test_an_insert_of_several_runs_reports_the_new_ones(store: Store, course: str) -> None:
    known, new = a_run(course), a_run(course)
    assert await store.runs.insert(known)

    assert await store.runs.insert_all([known, new]) == [False, True]
    assert await store.runs.get(new.id) == new


async def test_a_move_of_several_runs_reports_the_moved_ones(store: Store, course: str) -> None:
    runs = [a_run(course) for _ in range(12)]
    await store.runs.insert_all(runs)
    stale = {index: replace(runs[index], state=RunState.PRE_PROCESSING) for index in (0, 7, 11)}
    moves = [RunMove(stale.get(index, run), {"publish_at": None}) for index, run in enumerate(runs)]

    assert await store.runs.move_all(moves) == [index not in stale for index in range(12)]
    assert await store.runs.move_all([RunMove(stale[0], {"publish_at": None})]) == [False]


async def test_the_right_to_publish_passes_to_one_contender(store: Store, course: str) -> None:
    run = a_run(course)
    await store.runs.insert(run)
    step = Step(run, run.state, (), publish_at=run.publish_at)
    first, second = Hold(step, store.runs), Hold(step, store.runs)

    assert sorted(await asyncio.gather(first.renew(), second.renew())) == [False, True]
    assert run.id not in {due.id for due in await store.runs.unpublished(datetime.now(UTC), limit=1000)}


async def test_a_valid_right_to_publish_is_not_renewed(store: Store, course: str) -> None:
    later = datetime.now(UTC) + PUBLISH_GRACE
    hold = Hold(Step(a_run(course), RunState.STUDENTS, (), publish_at=later), store.runs)

    assert await hold.renew(), "though no such run is stored"


async def test_a_run_whose_jobs_were_never_stored_gets_them(store: Store, course: str) -> None:
    run = a_run(course, students=3)
    await store.runs.insert(run)

    for _ in range(2):
        await complete(run.id, runs=store.runs, jobs=store.jobs)
        assert await store.jobs.count(run.id, Phase.STUDENTS) == 3


@pytest.mark.parametrize("is_published", [False, True])
async def test_a_run_whose_jobs_are_stored_during_an_advance_stays_in_its_phase(
    store: Store, course: str, monkeypatch: pytest.MonkeyPatch, is_published: bool
) -> None:
    run, get = a_run(course), store.runs.get
    await store.runs.insert(run)

    async def get_a_moment_later(run_id: str) -> Run | None:
        await store.jobs.insert(plan_jobs(run, Phase.STUDENTS, NOW))
        if is_published:
            await store.runs.mark_published(run, run.state)
        return await get(run_id)

    monkeypatch.setattr(store.runs, "get", get_a_moment_later)
    step = await advance(run.id, runs=store.runs, jobs=store.jobs)

    stored = await store.runs.summary(run.id)
    assert stored is not None
    assert (step, stored.state) == (None, RunState.STUDENTS)


async def test_a_run_that_is_cancelled_before_its_jobs_are_stored_starts_none(store: Store, course: str) -> None:
    run = a_run(course, students=2)
    await store.runs.insert(run)

    await store.runs.give_order(run, Order(OrderKind.CANCEL, "not wanted"), run.state, publish_at=NOW)
    ordered = await store.runs.summary(run.id)
    assert ordered is not None
    assert ordered.order is not None
    step = await carry_out(ordered, ordered.order, runs=store.runs, jobs=store.jobs, publish=ignore)
    await store.jobs.insert(plan_jobs(run, Phase.STUDENTS, NOW))

    assert step is not None
    assert step.state is RunState.FAILED
    assert [(job.state, job.outcome) for job in await store.jobs.of_run(run.id)] == [
        (JobState.FINISHED, Outcome.CANCELLED)
    ] * 2


async def test_concurrent_submissions_are_separate_runs(store: Store, shared: Batched, course: str) -> None:
    await store.assignments.put(course, "mp1", {"student_pipeline": [stage()]})
    new_runs = NewRuns(shared.assignments, shared.runs, shared.jobs, LIMITS, Backlogs(shared.jobs))
    rosters = [RunRequest(students_env=[{"STUDENT_ID": str(number)}] * (number + 1)) for number in range(30)]
    of_course = Course(id=course, tokens=["t" * 12])
    submitted = await asyncio.gather(*(new_runs.submit(NewRun(of_course, "mp1", roster)) for roster in rosters))

    assert len({each.run_id for each in submitted}) == 30
    for each, roster in zip(submitted, rosters, strict=True):
        run = await store.runs.get(each.run_id)
        assert run
        assert run.students_env == roster.students_env
        assert await store.jobs.count(run.id, Phase.STUDENTS) == len(roster.students_env)


async def test_concurrent_copies_of_a_submission_are_one_run_across_processes(
    store: Store, shared: Batched, course: str
) -> None:
    await store.assignments.put(course, "mp1", {"student_pipeline": [stage()]})
    roster = RunRequest(students_env=[{"STUDENT_ID": "s"}])
    of_course = Course(id=course, tokens=["t" * 12])
    async with running(store.shared()) as other:
        takers = [
            NewRuns(each.assignments, each.runs, each.jobs, LIMITS, Backlogs(each.jobs))
            for each in (shared, other, shared, other)
        ]
        submitted = await asyncio.gather(*(taker.submit(NewRun(of_course, "mp1", roster), key="k") for taker in takers))

    assert len({each.run_id for each in submitted}) == 1
    assert sum(each.step is not None for each in submitted) == 1
    assert await store.jobs.count(submitted[0].run_id, Phase.STUDENTS) == 1


async def test_a_concurrent_copy_that_differs_is_refused(store: Store, shared: Batched, course: str) -> None:
    await store.assignments.put(course, "mp1", {"student_pipeline": [stage()]})
    new_runs = NewRuns(shared.assignments, shared.runs, shared.jobs, LIMITS, Backlogs(shared.jobs))
    of_course = Course(id=course, tokens=["t" * 12])
    rosters = [RunRequest(students_env=[{"STUDENT_ID": name}]) for name in ("a", "b")]
    answers = await asyncio.gather(
        *(new_runs.submit(NewRun(of_course, "mp1", roster), key="k") for roster in rosters),
        return_exceptions=True,
    )

    assert sorted(type(answer) is KeyReusedError for answer in answers) == [False, True]


async def test_a_copy_is_answered_after_its_assignment_has_changed(store: Store, shared: Batched, course: str) -> None:
    await store.assignments.put(course, "mp1", {"student_pipeline": [stage()]})
    new_runs = NewRuns(shared.assignments, shared.runs, shared.jobs, LIMITS, Backlogs(shared.jobs))
    of_course = Course(id=course, tokens=["t" * 12])
    roster = RunRequest(students_env=[{"STUDENT_ID": "s"}])
    first = await new_runs.submit(NewRun(of_course, "mp1", roster), key="k")
    await store.assignments.put(course, "mp1", {"student_pipeline": []})

    assert (await new_runs.submit(NewRun(of_course, "mp1", roster), key="k")).run_id == first.run_id


async def test_a_known_course_is_cached_and_a_missing_one_is_not(store: Store, shared: Batched) -> None:
    name = f"c{token_hex(4)}"
    assert await shared.courses.get(name) is None
    others = await store.courses.all()
    await store.courses.replace_all([*others, Course(id=name, tokens=["t" * 12])])

    assert (await shared.courses.get(name)) == (await store.courses.get(name))

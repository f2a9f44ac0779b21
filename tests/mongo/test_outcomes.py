"""Outcomes: the first one that is stored counts, and a crash before the job's update is repaired by the next move."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from secrets import token_hex
from typing import Any

import pytest
from bson import ObjectId
from crashing import Crash
from harness import stage
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.job import Attempt, Execution, FaultPhase, Job, JobState, Outcome, Phase, RetryPolicy
from broadway.domain.marks import Marks
from broadway.domain.moves import Move
from broadway.domain.report import Source, Visibility
from broadway.domain.result import JobLog
from broadway.domain.run import Run, RunState, plan_jobs
from broadway.mongo.collection import IDS
from broadway.mongo.store import Store
from broadway.runtime.crashpoints import CrashPointError, Point

NOW = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=1)
RESULTS = [{"success": True, "data": {"ExitCode": 0}}]

Database = AsyncDatabase[dict[str, Any]]


@pytest.fixture
async def job_ids(store: Store, course: str) -> list[str]:
    """The ids of three running jobs; the execution of each has the id of its job."""
    return await running_jobs(store, course, 3)


async def running_jobs(store: Store, course: str, number: int) -> list[str]:
    config, roster = {"student_pipeline": [stage()]}, [{"STUDENT_ID": f"s{each}"} for each in range(number)]
    run = Run(token_hex(12), course, "mp1", RunState.STUDENTS, NOW, config, roster)
    planned = plan_jobs(run, Phase.STUDENTS, NOW)
    await store.runs.insert(run)
    await store.jobs.insert(planned)
    ids = [plan.job.id for plan in planned]
    await store.jobs.move(dict.fromkeys(ids, start))
    return ids


def start(job: Job, execution: str = "") -> Job:
    attempt = Attempt(execution or job.id, "g1", NOW)
    return job.start(attempt, lease=timedelta(minutes=1), policy=RetryPolicy(), now=NOW)


def finish(job: Job, outcome: Outcome = Outcome.SUCCEEDED, execution: str = "", generation: int = 1) -> Job:
    if job.generation != generation:
        return job
    ended = NOW + timedelta(seconds=3)
    report = Execution(execution or job.id, "g1", NOW, ended, outcome, reason="because", results=RESULTS)
    return job.finish(report, policy=POLICY, now=NOW + timedelta(seconds=4))


def cancel(job: Job) -> Job:
    return job.cancel("staff", NOW + timedelta(seconds=5))


def lose(job: Job) -> Job:
    return job.lose(NOW, policy=POLICY)


def rerun(job: Job) -> Job:
    return job.rerun(1, 2, NOW)


def log_of(job_id: str, execution: str = "") -> dict[str, JobLog]:
    execution = execution or job_id
    return {execution: JobLog(job_id, execution, "out\n", "err\n", (((1, 1), (2, 1)),))}


async def one(store: Store, job_id: str) -> Job:
    job = await store.jobs.get(job_id)
    assert job is not None
    return job


async def test_an_outcome_is_one_document_and_reads_join_it(
    store: Store, database: Database, job_ids: list[str]
) -> None:
    """The start of the first job was recorded, that of the second was not."""
    first, second, _ = job_ids
    await store.jobs.move({second: rerun})
    moves: dict[str, Move] = {first: finish, second: partial(finish, generation=2, execution="unreported")}
    moved = await store.jobs.move(moves, logs=log_of(first))
    assert {moved[job_id].changed for job_id in moves} == {True}

    for job_id, execution in ((first, first), (second, "unreported")):
        job = await one(store, job_id)
        assert (job.state, job.outcome, job.success) == (JobState.FINISHED, Outcome.SUCCEEDED, True)
        assert (job.reason, job.grader_id, job.execution_id) == ("because", "g1", execution)
        assert (job.started_at, job.finished_at) == (NOW, NOW + timedelta(seconds=4))
        assert (job.attempts[-1].execution_id, job.attempts[-1].outcome) == (execution, Outcome.SUCCEEDED)
        assert job.seconds == 3
        assert job.results == RESULTS
        others = [(await store.jobs.get_many([job_id]))[job_id], *await store.jobs.of_run(job.run_id)]
        assert [replace(job, results=None)] * 2 == [each for each in others if each.id == job_id]
    assert await store.logs.get(first, first, generation=1) == log_of(first)[first]
    stored = await database["grading_job"].find_one({"_id": ObjectId(first)})
    assert stored is not None
    assert stored["results"] is None
    assert stored["attempts"][0]["outcome"] is None


async def test_jobs_for_several_questions_are_all_joined(store: Store, course: str) -> None:
    number = 2 * IDS + 1
    ids = await running_jobs(store, course, number)
    moved = await store.jobs.move(dict.fromkeys(ids, finish))
    assert {m.after.outcome for m in moved.values()} == {Outcome.SUCCEEDED}
    run_id = moved[ids[0]].after.run_id
    for jobs in (await store.jobs.of_run(run_id), list((await store.jobs.get_many(ids)).values())):
        assert [job.reason for job in jobs] == ["because"] * number
    assert len(await store.jobs.stages(ids)) == number


async def test_equal_outcomes_of_a_batch_are_one_update(store: Store, database: Database, job_ids: list[str]) -> None:
    await store.jobs.move(dict.fromkeys(job_ids, finish))
    documents = await database["grading_job"].find({"_id": {"$in": [ObjectId(each) for each in job_ids]}}).to_list()
    assert len({document["writer"] for document in documents}) == 1
    assert {document["lease_expires_at"] for document in documents} == {None}


async def test_the_first_of_two_outcomes_counts(store: Store, job_ids: list[str]) -> None:
    """Both services have read the running jobs; a start that arrives late changes nothing either."""
    first, second, third = job_ids
    known = await store.jobs.get_many(job_ids)
    await store.jobs.move({first: finish, second: cancel, third: finish})

    fail = partial(finish, outcome=Outcome.FAILED)
    moved = await store.jobs.move({first: fail, second: fail, third: partial(start, execution="late")}, known=known)
    assert [moved[job_id].changed for job_id in job_ids] == [False] * 3
    assert [moved[job_id].after.outcome for job_id in job_ids] == [
        Outcome.SUCCEEDED,
        Outcome.CANCELLED,
        Outcome.SUCCEEDED,
    ]
    assert not (await one(store, third)).knows("late")


@pytest.mark.parametrize(
    ("later", "execution"),
    [
        (finish, ""),
        (partial(finish, outcome=Outcome.FAILED, execution="other"), "other"),
        (cancel, ""),
        (lose, ""),
        (lambda job: job.give_up("dead letter", FaultPhase.REPORT, NOW), ""),
    ],
    ids=["reported again", "another outcome", "cancelled", "lost at the limit", "given up"],
)
async def test_an_outcome_whose_process_dies_is_completed_by_the_next_one(
    store: Store, job_ids: list[str], crash: Crash, later: Move, execution: str
) -> None:
    (job_id, *_) = job_ids
    crash(Point.OUTCOME_INSERTED)
    with pytest.raises(CrashPointError):
        await store.jobs.move({job_id: finish}, logs=log_of(job_id))
    assert (await one(store, job_id)).state is JobState.RUNNING

    logs = log_of(job_id, execution) if execution else {}
    moved = (await store.jobs.move({job_id: later}, logs=logs))[job_id]
    assert (moved.changed, moved.after.outcome, moved.after.generation) == (True, Outcome.SUCCEEDED, 1)
    job = await one(store, job_id)
    assert (job.outcome, job.execution_id, job.reason) == (Outcome.SUCCEEDED, job_id, "because")
    assert len(job.attempts) == 1
    assert await store.logs.get(job_id, job_id, generation=1) == log_of(job_id)[job_id]


async def test_a_cancellation_whose_process_dies_is_completed_by_the_graders_outcome(
    store: Store, job_ids: list[str], crash: Crash
) -> None:
    (job_id, *_) = job_ids
    crash(Point.OUTCOME_INSERTED)
    with pytest.raises(CrashPointError):
        await store.jobs.move({job_id: cancel})

    moved = (await store.jobs.move({job_id: finish}))[job_id]
    assert (moved.changed, moved.after.outcome, moved.after.generation) == (True, Outcome.CANCELLED, 2)
    assert (await one(store, job_id)).reason == "staff"


async def test_jobs_whose_outcome_is_stored_are_completed(store: Store, job_ids: list[str], crash: Crash) -> None:
    first, second, third = job_ids
    crash(Point.OUTCOME_INSERTED)
    with pytest.raises(CrashPointError):
        await store.jobs.move({first: finish, second: finish})
    jobs = list((await store.jobs.get_many(job_ids)).values())
    await store.jobs.move({second: finish})

    completed = await store.jobs.complete(jobs)
    assert {job_id: moved.after.outcome for job_id, moved in completed.items()} == {first: Outcome.SUCCEEDED}
    assert (await one(store, third)).state is JobState.RUNNING
    assert await store.jobs.complete(jobs) == {}


async def test_an_outcome_of_an_earlier_generation_never_ends_a_rerun(
    store: Store, job_ids: list[str], crash: Crash
) -> None:
    """The outcome is stored, its process dies, and the job starts again before the job's update."""
    (job_id, *_) = job_ids
    crash(Point.OUTCOME_INSERTED)
    with pytest.raises(CrashPointError):
        await store.jobs.move({job_id: finish}, logs=log_of(job_id))
    await store.jobs.move({job_id: rerun})

    moved = (await store.jobs.move({job_id: finish}))[job_id]
    assert (moved.changed, moved.after.state) == (False, JobState.QUEUED)
    job = await one(store, job_id)
    assert await store.jobs.complete([job]) == {}
    await store.jobs.move({job_id: partial(finish, outcome=Outcome.FAILED, execution="again", generation=2)})
    job = await one(store, job_id)
    assert (job.outcome, job.execution_id) == (Outcome.FAILED, "again")
    assert await store.logs.get(job_id, job_id, generation=1) == log_of(job_id)[job_id]


async def test_every_generation_keeps_its_log(store: Store, job_ids: list[str]) -> None:
    (job_id, *_) = job_ids
    await store.jobs.move({job_id: finish}, logs=log_of(job_id))
    await store.jobs.move({job_id: rerun})
    assert (await one(store, job_id)).attempts[0].outcome is Outcome.SUCCEEDED
    await store.jobs.move({job_id: cancel})
    await store.jobs.move({job_id: lambda job: job.rerun(3, 3, NOW)})
    moves = {job_id: partial(finish, execution="third", generation=4)}
    await store.jobs.move(moves, logs=log_of(job_id, "third"))

    job = await one(store, job_id)
    assert [(a.execution_id, a.generation, a.outcome) for a in job.attempts] == [
        (job_id, 1, Outcome.SUCCEEDED),
        ("third", 4, Outcome.SUCCEEDED),
    ]
    for execution, generation in ((job_id, 1), ("third", 4)):
        kept = await store.logs.get(job_id, execution, generation=generation)
        assert kept == log_of(job_id, execution)[execution]


async def test_a_job_that_an_earlier_version_ended_has_its_own_values(
    store: Store, database: Database, job_ids: list[str]
) -> None:
    """The version before this one stored an outcome while this one inserted another one."""
    (job_id, *_) = job_ids
    known = await store.jobs.get_many([job_id])
    values = {"state": "finished", "outcome": "failed", "success": False, "finished_at": NOW, "reason": "earlier"}
    await database["grading_job"].update_one(
        {"_id": ObjectId(job_id)}, {"$set": {**values, "results": []}, "$inc": {"revision": 1}}
    )

    moved = (await store.jobs.move({job_id: finish}, known=known))[job_id]
    assert (moved.changed, moved.after.outcome) == (False, Outcome.FAILED)
    job = await one(store, job_id)
    assert (job.outcome, job.reason, job.finished_at, job.results) == (Outcome.FAILED, "earlier", NOW, [])


@pytest.mark.parametrize(
    "marks",
    [
        Marks(),
        Marks(
            Source.JUNIT,
            Decimal("9007199254740.123"),  # no binary number
            Decimal(10),
            gradable=False,
            visibilities=(Visibility.AFTER_DUE, Visibility.VISIBLE),
        ),
        Marks(Source.TAP),
    ],
    ids=["no report", "points", "no points"],
)
async def test_marks_are_stored_with_the_outcome_and_survive_a_rerun(
    store: Store, job_ids: list[str], marks: Marks
) -> None:
    ended = NOW + timedelta(seconds=3)
    execution = Execution(job_ids[0], "g1", NOW, ended, Outcome.FAILED, results=RESULTS, marks=marks)
    await store.jobs.move({job_ids[0]: lambda job: job.finish(execution, policy=POLICY, now=NOW)})

    listed = (await store.jobs.get_many(job_ids))[job_ids[0]]
    assert [attempt.marks for attempt in listed.attempts] == [marks]
    assert listed.attempts == (await one(store, job_ids[0])).attempts
    await store.jobs.move({job_ids[0]: rerun})
    await store.jobs.move({job_ids[0]: partial(start, execution="again")})
    assert [attempt.marks for attempt in (await one(store, job_ids[0])).attempts] == [marks, None]

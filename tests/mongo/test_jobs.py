"""The job store's conditional updates, with concurrent writers."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import pytest
from bson import ObjectId
from earlier_jobs import dispatched
from harness import Place, stage
from pymongo import MongoClient
from pymongo.synchronous.database import Database

from broadway.domain.job import Job, JobClass, JobState, Phase
from broadway.domain.moves import Move
from broadway.domain.result import JobLog
from broadway.domain.run import Run, RunState, plan_jobs
from broadway.mongo.job_moves import ConflictError
from broadway.mongo.store import Store


@pytest.fixture
def other_writer(shared_place: Place) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](shared_place.mongodb_dsn) as client:
        yield client[f"{shared_place.name}_ag"]


@pytest.fixture
async def job_ids(store: Store, course: str) -> list[str]:
    """The ids of the jobs of a run with three students."""
    now = datetime.now(UTC)
    config, roster = {"student_pipeline": [stage()]}, [{"STUDENT_ID": f"s{number}"} for number in range(3)]
    run = Run(token_hex(12), course, "mp1", RunState.STUDENTS, now, config, roster)
    planned = plan_jobs(run, Phase.STUDENTS, now)
    assert await store.runs.insert(run)
    await store.jobs.insert(planned)
    return [plan.job.id for plan in planned]


def disturbed(other: Database[dict[str, Any]], job_id: str, *, times: int) -> Move:
    """Return a dispatch of a job that another writer changes ``times`` times just before."""
    remaining = iter(range(times))

    def move(job: Job) -> Job:
        if next(remaining, None) is not None:
            other["grading_job"].update_one({"_id": ObjectId(job_id)}, {"$inc": {"revision": 1}})
        return dispatch(job)

    return move


def dispatch(job: Job) -> Job:
    return dispatched(job, datetime.now(UTC))


async def test_a_batch_reports_its_moves_despite_a_concurrent_writer(
    store: Store, other_writer: Database[dict[str, Any]], job_ids: list[str]
) -> None:
    first, second, third = job_ids
    moves = {first: dispatch, second: disturbed(other_writer, second, times=1), third: dispatch}
    moved = await store.jobs.move(moves)

    assert [moved[job_id].changed for job_id in job_ids] == [True] * 3
    assert [moved[job_id].after.state for job_id in job_ids] == [JobState.DISPATCHED] * 3
    stored = await store.jobs.get_many(job_ids)
    assert [moved[job_id].after.revision for job_id in job_ids] == [stored[job_id].revision for job_id in job_ids]

    again = await store.jobs.move(dict.fromkeys(job_ids, dispatch))
    assert [again[job_id].changed for job_id in job_ids] == [False] * 3


async def test_the_same_move_by_another_writer_is_not_reported_as_ours(
    store: Store, other_writer: Database[dict[str, Any]], job_ids: list[str]
) -> None:
    """Two services record the same outcome at the same time, and one of them has stored it."""
    first, second, _ = job_ids
    remaining = iter([True])

    def overtaken(job: Job) -> Job:
        if next(remaining, False):
            changes = {"$set": {"state": "dispatched"}, "$inc": {"revision": 1}}
            other_writer["grading_job"].update_one({"_id": ObjectId(second)}, changes)
        return dispatch(job)

    moved = await store.jobs.move({first: dispatch, second: overtaken})
    assert (moved[first].changed, moved[second].changed) == (True, False)


async def test_a_writer_that_always_comes_first_causes_a_conflict_error(
    store: Store, other_writer: Database[dict[str, Any]], job_ids: list[str]
) -> None:
    with pytest.raises(ConflictError, match=f"1 jobs could not be updated, the first is {job_ids[0]}"):
        await store.jobs.move({job_ids[0]: disturbed(other_writer, job_ids[0], times=100)})
    assert (await store.jobs.get_many(job_ids))[job_ids[0]].state is JobState.QUEUED


async def test_the_callers_copies_of_jobs_may_be_outdated_or_missing(
    store: Store, other_writer: Database[dict[str, Any]], job_ids: list[str]
) -> None:
    """The copy of the first job is current, that of the second is outdated, and the third has no copy."""
    known = await store.jobs.get_many(job_ids[:2])
    other_writer["grading_job"].update_one({"_id": ObjectId(job_ids[1])}, {"$inc": {"revision": 1}})

    moved = await store.jobs.move(dict.fromkeys(job_ids, dispatch), known=known)

    stored = await store.jobs.get_many(job_ids)
    assert [moved[job_id].changed for job_id in job_ids] == [True] * 3
    assert [stored[job_id].state for job_id in job_ids] == [JobState.DISPATCHED] * 3
    assert [moved[job_id].after.revision for job_id in job_ids] == [stored[job_id].revision for job_id in job_ids]
    assert stored[job_ids[1]].revision == 2


async def test_storing_a_log_again_changes_nothing(store: Store) -> None:
    first, other = (JobLog(str(ObjectId()), str(ObjectId()), text, "") for text in ("first", "other"))
    await store.logs.put([first])
    await store.logs.put([replace(first, stdout="again"), other])

    assert await store.logs.get(first.job_id, first.execution_id) == first
    assert await store.logs.get(other.job_id, other.execution_id) == other


async def test_a_backlog_can_exclude_runs(store: Store, job_ids: list[str], course: str) -> None:
    (run_id,) = {job.run_id for job in (await store.jobs.get_many(job_ids)).values()}

    assert await store.jobs.count_queued(course, JobClass.BULK, unless_of=["another"]) == 3
    assert len(await store.jobs.queued(course, JobClass.BULK, limit=9, unless_of=["another"])) == 3
    assert await store.jobs.count_queued(course, JobClass.BULK, unless_of=[run_id]) == 0
    assert await store.jobs.queued(course, JobClass.BULK, limit=9, unless_of=[run_id]) == []

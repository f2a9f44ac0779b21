"""The environments of large runs, which are stored in chunks before their run."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest
from bson import ObjectId
from harness import stage
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.job import Phase
from broadway.domain.run import Run, RunState, plan_jobs
from broadway.mongo.store import Store
from broadway.mongo.students import CHUNK, INLINE, chunked
from broadway.ports import StoreError, UnstorableError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIZE = 100_000  # bytes of an environment
Database = AsyncDatabase[dict[str, Any]]


def a_run(course: str, students: int, config: Mapping[str, Any] | None = None) -> Run:
    roster = [{"STUDENT_ID": f"s{number}", "FILE": "x" * SIZE} for number in range(students)]
    return Run(token_hex(12), course, "mp1", RunState.STUDENTS, NOW, config or {"student_pipeline": [stage()]}, roster)


async def kept(database: Database, run_id: str) -> list[str]:
    """Return the ids of what is stored beside a run."""
    return sorted(
        [each["_id"] async for each in database["run_students"].find({}, {"_id": 1}) if run_id in each["_id"]]
    )


def test_only_large_rosters_are_split() -> None:
    few, many = ([{"STUDENT_ID": "s", "FILE": "x" * SIZE}] * number for number in (INLINE // SIZE, CHUNK // SIZE + 1))

    assert chunked(few) == chunked([]) == []
    assert [len(chunk) for chunk in chunked(many)] == [CHUNK // SIZE, 1]


async def test_a_large_run_is_read_back(store: Store, database: Database, course: str) -> None:
    run = a_run(course, 12)

    assert await store.runs.insert(run)
    assert await store.runs.get(run.id) == run
    summary = await store.runs.summary(run.id)
    assert summary is not None
    assert (summary.students_env, summary.students) == ([], 12)
    (stored,) = [document async for document in database["grading_run"].find({"_id": ObjectId(run.id)})]
    assert len(str(stored)) < SIZE
    assert len(await kept(database, run.id)) == stored["students_env"]["chunks"] == 3


async def test_a_small_run_is_stored_in_the_shape_of_the_original(
    store: Store, database: Database, course: str
) -> None:
    run = a_run(course, 2)

    assert await store.runs.insert(run)
    stored = await database["grading_run"].find_one({"_id": ObjectId(run.id)})
    assert stored is not None
    assert stored["students_env"] == run.students_env
    assert await kept(database, run.id) == []


async def test_a_run_whose_id_is_taken_leaves_the_environments_of_the_first(
    store: Store, database: Database, course: str
) -> None:
    run = a_run(course, 4)
    other = replace(run, students_env=[{**env, "STUDENT_ID": "other"} for env in run.students_env])

    assert await store.runs.insert(run)
    before = await kept(database, run.id)
    assert not await store.runs.insert(other)
    assert await store.runs.get(run.id) == run
    assert await kept(database, run.id) == before


async def test_environments_without_a_run_are_removed_later(store: Store, database: Database, course: str) -> None:
    """A process died after the environments, another one after the run."""
    lost, unsettled = a_run(course, 4), a_run(course, 4)
    assert await store.runs.insert(lost)
    assert await store.runs.insert(unsettled)
    for run in (lost, unsettled):
        document = await database["grading_run"].find_one({"_id": ObjectId(run.id)})
        assert document is not None
        reference = document["students_env"]
        intent = {"_id": f"{run.id}:{reference['token']}", "run": run.id, "begun_at": NOW, **reference}
        await database["run_students"].insert_one(intent)
    await database["grading_run"].delete_one({"_id": ObjectId(lost.id)})

    assert await store.runs.remove_leftovers(NOW) == 0
    assert len(await kept(database, lost.id)) == 2
    assert await store.runs.remove_leftovers(NOW + timedelta(seconds=1)) == 1
    assert await kept(database, lost.id) == []
    assert await store.runs.get(unsettled.id) == unsettled
    assert await store.runs.remove_leftovers(NOW + timedelta(seconds=1)) == 0


async def test_a_refused_run_leaves_nothing(store: Store, database: Database, course: str) -> None:
    run = a_run(course, 4, {"student_pipeline": [stage("x" * 16 * 1024 * 1024)]})

    with pytest.raises(UnstorableError):
        await store.runs.insert(run)
    assert await kept(database, run.id) == []


async def test_a_run_with_lost_environments_is_not_taken_for_an_empty_one(
    store: Store, database: Database, course: str
) -> None:
    run = a_run(course, 4)
    assert await store.runs.insert(run)
    await database["run_students"].delete_one({"_id": (await kept(database, run.id))[0]})

    with pytest.raises(StoreError, match=f"the environments {run.id}"):
        await store.runs.get(run.id)


async def test_services_of_an_earlier_version_do_not_plan_a_run_without_its_students(
    store: Store, database: Database, course: str
) -> None:
    """They take the field for the list of environments, and must fail rather than go on to the next phase."""
    run = a_run(course, 4)
    assert await store.runs.insert(run)
    stored = await database["grading_run"].find_one({"_id": ObjectId(run.id)})
    assert stored is not None
    as_earlier = replace(run, state=RunState.READY, students_env=stored["students_env"] or [])

    assert as_earlier.next_state(phase_succeeded=True) is RunState.STUDENTS
    with pytest.raises(TypeError):
        plan_jobs(as_earlier, Phase.STUDENTS, NOW)

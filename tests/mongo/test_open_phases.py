"""Phases with open jobs, with the open job that is remembered and after it has ended."""

from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import pytest
from bson import ObjectId
from harness import stage
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.job import Phase
from broadway.domain.run import Run, RunState, plan_jobs
from broadway.mongo import open_phases
from broadway.mongo.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Database = AsyncDatabase[dict[str, Any]]


async def stored(store: Store, course: str, students: int = 4) -> Run:
    pipelines = {"student_pipeline": [stage()], "post_processing_pipeline": [stage()]}
    roster = [{"STUDENT_ID": f"s{number}"} for number in range(students)]
    run = Run(token_hex(12), course, "mp1", RunState.STUDENTS, NOW, pipelines, roster)
    await store.jobs.insert(plan_jobs(run, Phase.STUDENTS, NOW))
    return run


async def end(database: Database, job_ids: list[str]) -> None:
    ids = [ObjectId(job_id) for job_id in job_ids]
    await database["grading_job"].update_many({"_id": {"$in": ids}}, {"$set": {"state": "finished"}})


async def test_a_phase_is_open_until_its_last_job_has_ended(store: Store, course: str, database: Database) -> None:
    run = await stored(store, course)
    job_ids = [job.id for job in await store.jobs.of_run(run.id)]

    for ended in (job_ids[-1:], job_ids[:2]):  # the remembered job first
        assert await store.jobs.is_phase_open(run.id, Phase.STUDENTS)
        await end(database, ended)
    assert await store.jobs.is_phase_open(run.id, Phase.STUDENTS)
    await end(database, job_ids)
    assert not await store.jobs.is_phase_open(run.id, Phase.STUDENTS)
    assert not await store.jobs.is_phase_open(run.id, Phase.POST_PROCESSING)


async def test_a_phase_is_found_open_again_after_a_rerun(store: Store, course: str, database: Database) -> None:
    run = await stored(store, course)
    job_ids = [job.id for job in await store.jobs.of_run(run.id)]
    assert await store.jobs.is_phase_open(run.id, Phase.STUDENTS)
    await end(database, job_ids)
    assert not await store.jobs.is_phase_open(run.id, Phase.STUDENTS)

    await database["grading_job"].update_one({"_id": ObjectId(job_ids[0])}, {"$set": {"state": "queued"}})

    assert await store.jobs.is_phase_open(run.id, Phase.STUDENTS)


async def test_many_phases_are_asked_at_once(
    store: Store, course: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs with many jobs displace others in the sample; more phases are asked than are remembered."""
    monkeypatch.setattr(open_phases, "_SAMPLED", 1)
    monkeypatch.setattr(open_phases, "REMEMBERED", 2)
    runs = [await stored(store, course, students) for students in (6, 1, 3)]
    over = await stored(store, course, 1)
    await end(database, [job.id for job in await store.jobs.of_run(over.id)])
    asked = [(run.id, phase) for run in (*runs, over) for phase in (Phase.STUDENTS, Phase.POST_PROCESSING)]

    for _ in range(2):
        assert await store.jobs.are_phases_open(asked) == [True, False] * 3 + [False, False]

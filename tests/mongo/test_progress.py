"""The progress of a run after an earlier read is the one that a read of all its jobs finds."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import pytest
from harness import stage

from broadway.domain.job import Attempt, Execution, Job, JobState, Outcome, Phase, RetryPolicy
from broadway.domain.run import Run, RunState, plan_jobs
from broadway.mongo import progress
from broadway.mongo.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def run(store: Store, course: str) -> Run:
    """A run whose four jobs wait."""
    roster = [{"STUDENT_ID": f"s{number}"} for number in range(4)]
    run = Run(token_hex(12), course, "mp1", RunState.STUDENTS, NOW, {"student_pipeline": [stage()]}, roster)
    assert await store.runs.insert(run)
    await store.jobs.insert(plan_jobs(run, Phase.STUDENTS, NOW))
    return run


def started(job: Job) -> Job:
    return job.start(Attempt("e1", "g1", NOW), lease=timedelta(minutes=1), policy=RetryPolicy(), now=NOW)


def ended(job: Job) -> Job:
    execution = Execution("e1", "g1", NOW, NOW + timedelta(seconds=4), Outcome.SUCCEEDED)
    return job.finish(execution, policy=RetryPolicy(), now=NOW + timedelta(seconds=4))


def lost(job: Job) -> Job:
    return started(job).lose(NOW, policy=RetryPolicy())


def again(job: Job) -> Job:
    return job.rerun(job.generation, 2, NOW + timedelta(hours=1))


MOVES: list[tuple[Callable[[Job], Job], JobState]] = [
    (started, JobState.RUNNING),
    (ended, JobState.FINISHED),
    (lost, JobState.QUEUED),  # and with a start
]


@pytest.mark.parametrize(("move", "state"), MOVES, ids=["started", "ended", "lost"])
async def test_a_job_that_has_moved_is_as_it_is_stored(
    store: Store, run: Run, move: Callable[[Job], Job], state: JobState
) -> None:
    identity = (await store.progress.of_run(run.id))[0].id
    await store.jobs.move({identity: ended})
    earlier = await store.progress.of_run(run.id)
    await store.jobs.move({earlier[1].id: move})

    found = await store.progress.of_run_again(run.id, earlier, {identity})

    assert found == await store.progress.of_run(run.id)
    assert [found[1].state, found[1].started_at] == [state, NOW]
    assert found[0] is earlier[0]
    assert all(new is old for new, old in zip(found[2:], earlier[2:], strict=True))


async def test_new_jobs_and_those_that_an_order_has_opened_are_found(store: Store, run: Run) -> None:
    first, second, *_ = await store.progress.of_run(run.id)
    await store.jobs.move({first.id: ended, second.id: ended})
    earlier = await store.progress.of_run(run.id)
    await store.jobs.move({second.id: again})

    found = await store.progress.of_run_again(run.id, earlier[:3], {first.id, second.id})

    assert found == await store.progress.of_run(run.id)
    assert [each.state for each in found[:2]] == [JobState.FINISHED, JobState.QUEUED]


async def test_after_many_ends_all_jobs_are_read(store: Store, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MOST_BY_ID", 2)
    earlier = await store.progress.of_run(run.id)
    await store.jobs.move({each.id: ended for each in earlier})

    found = await store.progress.of_run_again(run.id, earlier, frozenset())

    assert found == await store.progress.of_run(run.id)
    assert {each.state for each in found} == {JobState.FINISHED}

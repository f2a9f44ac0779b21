"""Reads of one run are shared, never older than the request, and remembered once nothing can change."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from harness import until

from broadway.domain.job import Job, JobClass, JobState, Outcome, Phase
from broadway.domain.progress import JobProgress
from broadway.domain.run import Order, OrderKind, Run, RunState
from broadway.ingest.reads import progress as module
from broadway.ingest.reads.progress import LIFETIME, ProgressReads

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
COURSE = "cs1"


def job(identity: str, **more: Any) -> Job:
    return Job(
        id=identity,
        run_id="r1",
        course=COURSE,
        assignment="mp1",
        phase=Phase.STUDENTS,
        index=0,
        job_class=JobClass.BULK,
        pool="default",
        queued_at=T0,
        **more,
    )


def done(identity: str) -> Job:
    over = {"state": JobState.FINISHED, "outcome": Outcome.FAILED, "finished_at": T0, "success": False}
    return job(identity, reason="exit code 1", **over)


def run(state: RunState, **more: Any) -> Run:
    return Run(id="r1", course=COURSE, assignment="mp1", state=state, started_at=T0, config={}, students_env=[], **more)


@dataclass
class Stored:
    """The runs and jobs of a store, the number of reads of a run's jobs, and those without the jobs that last."""

    runs: dict[str, Run]
    jobs: list[Job]
    reads: int = 0
    again: list[frozenset[str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def summary(self, run_id: str) -> Run | None:
        return self.runs.get(run_id)

    async def of_run(self, run_id: str) -> list[JobProgress]:
        self.reads += 1
        found = [each for each in self.jobs if each.run_id == run_id]
        await self.gate.wait()
        names = JobProgress.__dataclass_fields__
        return [JobProgress(**{name: getattr(each, name) for name in names}) for each in found]

    async def of_run_again(
        self, run_id: str, earlier: Sequence[JobProgress], lasting: Collection[str]
    ) -> list[JobProgress]:
        self.again.append(frozenset(lasting))
        known = {each.id: each for each in earlier}
        return [known[each.id] if each.id in lasting else each for each in await self.of_run(run_id)]

    async def get_many(self, job_ids: Any) -> dict[str, Job]:
        return {each.id: each for each in self.jobs if each.id in job_ids}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stored() -> Stored:
    stored = Stored({"r1": run(RunState.FINISHED, finished_at=T0)}, [done("j1")])
    stored.gate.set()
    return stored


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reads(stored: Stored, clock: Clock) -> ProgressReads:
    return ProgressReads(stored, stored, stored, clock=clock)


async def test_a_read_during_which_a_job_changes_is_not_given_to_later_requests(
    stored: Stored, reads: ProgressReads
) -> None:
    stored.runs["r1"], stored.jobs = run(RunState.STUDENTS), [job("j1")]
    stored.gate.clear()
    before = asyncio.create_task(reads.of_run(COURSE, "r1"))
    await until(lambda: stored.reads == 1)
    stored.jobs = [done("j1")]  # by another process, whose client asks now
    after = asyncio.create_task(reads.of_run(COURSE, "r1"))
    await asyncio.sleep(0)
    stored.gate.set()

    first, second = await before, await after
    assert first is not None
    assert second is not None
    assert [each.progress.jobs[0].state for each in (first, second)] == [JobState.QUEUED, JobState.FINISHED]
    assert second.progress.reasons == {"j1": "exit code 1"}


async def test_a_run_that_is_over_is_read_once(stored: Stored, reads: ProgressReads) -> None:
    first, second = await reads.of_run(COURSE, "r1"), await reads.of_run(COURSE, "r1")

    assert first is not None
    assert first is second
    assert stored.reads == 1
    rendered = [first.form("v1", lambda _: b"once"), first.form("v1", lambda _: b"twice")]
    assert [each.body for each in rendered] == [b"once", b"once"]


@pytest.mark.parametrize(
    "change",
    [{"round": 2}, {"order": Order(OrderKind.RERUN)}, {"state": RunState.STUDENTS}],
    ids=["round", "order", "state"],
)
async def test_an_order_ends_the_memory(stored: Stored, reads: ProgressReads, change: dict[str, Any]) -> None:
    await reads.of_run(COURSE, "r1")
    stored.runs["r1"] = replace(stored.runs["r1"], **change)
    stored.jobs = [job("j1")]

    found = await reads.of_run(COURSE, "r1")

    assert found is not None
    assert found.progress.jobs[0].state is JobState.QUEUED


async def test_a_run_with_an_order_or_an_open_job_is_not_remembered(stored: Stored, reads: ProgressReads) -> None:
    stored.jobs.append(job("j2"))
    await reads.of_run(COURSE, "r1")
    stored.jobs.pop()
    stored.runs["r1"] = replace(stored.runs["r1"], order=Order(OrderKind.CANCEL))
    await reads.of_run(COURSE, "r1")
    await reads.of_run(COURSE, "r1")

    assert stored.reads == 3


async def test_the_memory_ends_after_its_lifetime(stored: Stored, reads: ProgressReads, clock: Clock) -> None:
    await reads.of_run(COURSE, "r1")
    clock.now += LIFETIME
    await reads.of_run(COURSE, "r1")

    assert stored.reads == 2


GOES_ON = run(RunState.STUDENTS)
LATER = replace(done("j4"), phase=Phase.POST_PROCESSING)
EARLIER = replace(done("j0"), phase=Phase.PRE_PROCESSING)


async def test_of_a_run_that_goes_on_ended_jobs_are_not_read_again(stored: Stored, reads: ProgressReads) -> None:
    stored.runs["r1"], stored.jobs = GOES_ON, [EARLIER, done("j1"), job("j2"), job("j3"), LATER]
    first = await reads.of_run(COURSE, "r1")
    stored.jobs = [EARLIER, done("j1"), done("j2"), job("j3"), LATER]
    second = await reads.of_run(COURSE, "r1")
    await reads.of_run(COURSE, "r1")

    assert first is not None
    assert second is not None
    assert stored.again == [{"j0", "j1"}, {"j0", "j1", "j2"}]
    assert [each.state for each in second.progress.jobs[1:4]] == [JobState.FINISHED, JobState.FINISHED, JobState.QUEUED]
    assert first.progress.jobs[1] is second.progress.jobs[1]


@pytest.mark.parametrize(
    "change",
    [
        {"round": 2},
        {"order": Order(OrderKind.RERUN)},
        {"state": RunState.POST_PROCESSING},
        {"publish_at": T0},
    ],
    ids=["round", "order", "state", "unpublished jobs"],
)
async def test_a_step_of_a_run_makes_all_its_jobs_read(
    stored: Stored, reads: ProgressReads, change: dict[str, Any]
) -> None:
    stored.runs["r1"], stored.jobs = GOES_ON, [done("j1"), job("j2")]
    await reads.of_run(COURSE, "r1")
    stored.runs["r1"] = replace(GOES_ON, **change)
    await reads.of_run(COURSE, "r1")
    stored.runs["r1"] = GOES_ON
    await reads.of_run(COURSE, "r1")

    assert (stored.reads, stored.again) == (3, [])


async def test_all_jobs_of_a_run_are_read_from_time_to_time(stored: Stored, reads: ProgressReads, clock: Clock) -> None:
    stored.runs["r1"], stored.jobs = GOES_ON, [done("j1"), job("j2")]
    for _ in range(4):
        await reads.of_run(COURSE, "r1")
        clock.now += LIFETIME / 2

    assert len(stored.again) == 2  # the first read and the third one were whole


async def test_the_memory_is_bounded(stored: Stored, reads: ProgressReads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_JOBS", 5)
    for number in range(4):
        name = f"r{number}"
        stored.runs[name] = replace(stored.runs["r1"], id=name)
        stored.jobs.append(replace(done(f"{name}-1"), run_id=name))
        await reads.of_run(COURSE, name)
    before = stored.reads
    await reads.of_run(COURSE, "r3")
    assert stored.reads == before
    await reads.of_run(COURSE, "r0")
    assert stored.reads == before + 1


async def test_runs_of_other_courses_are_unknown(stored: Stored, reads: ProgressReads) -> None:
    assert await reads.of_run("cs2", "r1") is None
    assert await reads.of_run(COURSE, "r9") is None
    assert stored.reads == 0

"""Pages of a run's jobs: all jobs once, in order, with reads that do not grow with the run."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from harness import stage

from broadway.domain.job import Job, JobState, Phase
from broadway.domain.pages import CursorError
from broadway.domain.run import Run, RunState, plan_jobs
from broadway.ingest.reads.job_pages import SEARCHED, Admits, JobPages

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMIT = 3


@dataclass
class Kept:
    """Jobs in memory, which count what is read of them."""

    jobs: list[Job]
    reads: list[int] = field(default_factory=list)

    async def of_run(self, run_id: str) -> list[Job]:
        self._note(len(self.jobs))
        return [job for job in self.jobs if job.run_id == run_id]

    async def get_many(self, job_ids: Sequence[str]) -> dict[str, Job]:
        self._note(len(job_ids))
        return {job.id: job for job in self.jobs if job.id in job_ids}

    def _note(self, number: int) -> None:
        self.reads.append(number)


def a_run(students: int, *, stored: int | None) -> Run:
    pipelines = {f"{kind}_pipeline": [stage()] for kind in ("student", "pre_processing", "post_processing")}
    roster = [{"STUDENT_ID": f"s{number}"} for number in range(students)]
    return Run("0" * 24, "cs101", "mp1", RunState.STUDENTS, NOW, pipelines, roster, students=stored)


def jobs_of(run: Run, *phases: Phase) -> list[Job]:
    return [plan.job for phase in phases or Phase for plan in plan_jobs(run, phase, NOW)]


async def all_pages(run: Run, kept: Kept, admits: Admits | None = None) -> list[list[str]]:
    pages: list[list[str]] = []
    after: str | None = None
    while after or not pages:
        page = await JobPages(kept).page(run, after=after, limit=LIMIT, admits=admits)
        pages.append([job.id for job in page.items])
        after = page.next
    return pages


@pytest.mark.parametrize("stored", [7, None], ids=["number stored", "earlier version"])
async def test_pages_have_each_job_once_in_order(stored: int | None) -> None:
    run = a_run(7, stored=stored)
    jobs = jobs_of(run)

    pages = await all_pages(run, Kept(jobs[::-1] if stored else jobs))

    assert [len(page) for page in pages] == [3, 3, 3]
    assert [each for page in pages for each in page] == [job.id for job in jobs]


@pytest.mark.parametrize("stored", [7, None], ids=["number stored", "earlier version"])
async def test_pages_of_some_jobs(stored: int | None) -> None:
    run = a_run(7, stored=stored)
    jobs = [replace(job, state=JobState.RUNNING) if job.index % 2 else job for job in jobs_of(run)]

    pages = await all_pages(run, Kept(jobs), lambda job: job.state is JobState.RUNNING)

    assert pages == [[job.id for job in jobs if job.index % 2]]


async def test_a_page_reads_as_much_in_a_large_run_as_in_a_small_one() -> None:
    sizes: list[list[int]] = []
    for students in (20, 2000):
        run = a_run(students, stored=students)
        jobs = jobs_of(run)
        kept = Kept(jobs)
        page = await JobPages(kept).page(run, after=jobs[-10].id, limit=LIMIT, admits=None)
        assert [job.id for job in page.items] == [job.id for job in jobs[-9:-6]]
        sizes.append(kept.reads)

    assert sizes[0] == sizes[1] == [1, LIMIT + 1]


async def test_a_phase_that_has_not_begun_is_not_searched() -> None:
    run = a_run(20 * SEARCHED, stored=20 * SEARCHED)
    kept = Kept(jobs_of(run, Phase.PRE_PROCESSING))

    page = await JobPages(kept).page(run, after=None, limit=LIMIT, admits=lambda _: True)

    assert [job.phase for job in page.items] == [Phase.PRE_PROCESSING]
    assert kept.reads == [1, SEARCHED, 1]


@pytest.mark.parametrize("stored", [2, None], ids=["number stored", "earlier version"])
async def test_a_cursor_is_a_job_of_the_run(stored: int | None) -> None:
    run, other = a_run(2, stored=stored), replace(a_run(2, stored=stored), id="1" * 24)
    kept = Kept([*jobs_of(run), *jobs_of(other)])

    for cursor in (jobs_of(other)[0].id, "f" * 24):
        with pytest.raises(CursorError, match="this run has no such job"):
            await JobPages(kept).page(run, after=cursor, limit=LIMIT, admits=None)

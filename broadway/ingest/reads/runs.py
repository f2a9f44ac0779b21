"""Reads of runs and of their jobs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from broadway.domain.job import Job, Phase
from broadway.domain.pages import Slice, cursor, sliced
from broadway.domain.run import Run, job_id
from broadway.ingest.reads.job_pages import JobPages
from broadway.ingest.reads.stores import AssignmentQueries, JobQueries, RunQueries
from broadway.lifecycle.stores import Stages


@dataclass(frozen=True, slots=True)
class RunJobs:
    """All jobs of a run, in the order of phases and of the roster, and their stages by job id."""

    jobs: list[Job]
    stages: Mapping[str, Stages]


@dataclass(frozen=True, slots=True)
class JobWithStages:
    """A job and its stages."""

    job: Job
    stages: Stages


@dataclass(frozen=True, slots=True)
class RunReads:
    """Reads of the runs of any course."""

    runs: RunQueries
    jobs: JobQueries
    assignments: AssignmentQueries

    async def summary(self, course: str, run_id: str) -> Run | None:
        """Return a run of a course without its roster and config; None if the course has no such run."""
        run = await self.runs.summary(run_id)
        return run if run and run.course == course else None

    async def latest(
        self, course: str, *, assignment: str | None = None, after: str | None = None, limit: int
    ) -> Slice[Run]:
        """Return a page of a course's runs, latest first; only of one assignment if that is given.

        Raises:
            CursorError: ``after`` is not a cursor.
        """
        names = [assignment] if assignment else await self.assignments.names(course)
        found = await self.runs.of_assignments([f"{course}/{name}" for name in names], before=after, limit=limit + 1)
        return sliced(found, limit, lambda run: cursor(run.started_at, run.id))

    async def of_submissions(self, runs: Iterable[Run]) -> dict[str, Job]:
        """Return the jobs of those runs that a submission or a push started, by run id, without results."""
        ids = {job_id(run.id, Phase.STUDENTS, 0): run.id for run in runs if run.trigger}
        found = await self.jobs.get_many(list(ids)) if ids else {}
        return {ids[identity]: job for identity, job in found.items()}

    async def with_stages(self, run_id: str) -> RunJobs:
        """Return the jobs of a run with their stages."""
        jobs = await self.jobs.of_run(run_id)
        return RunJobs(jobs, await self.jobs.stages_of_run(run_id))

    async def jobs_page(
        self, run: Run, *, after: str | None, limit: int, admits: Callable[[Job], bool] | None
    ) -> Slice[JobWithStages]:
        """Return a page of the jobs of a run that ``admits`` accepts; without it, of all jobs.

        Raises:
            CursorError: ``after`` is not the id of a job of the run.
        """
        page = await JobPages(self.jobs).page(run, after=after, limit=limit, admits=admits)
        stages = await self.jobs.stages([job.id for job in page.items])
        return Slice([JobWithStages(job, stages.get(job.id, [])) for job in page.items], page.next)

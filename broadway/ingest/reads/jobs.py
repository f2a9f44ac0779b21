"""Reads of single jobs."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from broadway.domain.job import Job, JobState
from broadway.domain.result import JobLog, StageResult
from broadway.ingest.reads.runs import JobWithStages
from broadway.ingest.reads.stores import JobQueries, LogQueries, RunQueries

LOG_WITHIN = timedelta(seconds=10)  # after a cancellation, within which the grader's log is expected


@dataclass(frozen=True, slots=True)
class JobReads:
    """Reads of the jobs of any course."""

    jobs: JobQueries
    runs: RunQueries
    logs: LogQueries

    async def one(self, course: str, job_id: str) -> Job | None:
        """Return a job of a course without its stages; None if the course has no such job."""
        found = await self.in_courses([course], job_id)
        return found[1] if found else None

    async def in_courses(self, courses: Collection[str], job_id: str) -> tuple[str, Job] | None:
        """Return a job without its stages, and its course, if it is one of ``courses``."""
        job = await self.jobs.get(job_id)
        run = await self.runs.summary(job.run_id) if job else None
        return (run.course, job) if job and run and run.course in courses else None

    async def with_stages(self, job: Job) -> JobWithStages:
        """Return a job with its stages."""
        return JobWithStages(job, (await self.jobs.stages([job.id])).get(job.id, []))

    async def log(self, job: Job) -> JobLog | None:
        """Return the log of a finished job; None while it has none."""
        if not job.is_terminal or (
            job.execution_id is None and job.attempts
        ):  # it has not run since it was queued again
            return None
        kept = await self._log_of(job, job.execution_id)
        if kept is None or kept.streams:
            return kept
        # Earlier versions stored the streams with the results only.
        return replace(kept, streams=[StageResult.read(entry).streams for entry in job.results or []])

    async def awaits_log(self, job: Job) -> bool:
        """Return whether the log of a job that was cancelled a moment ago is still on its way from the job's grader.

        All other outcomes are stored together with their logs.
        """
        is_cancelled = job.outcome is not None and job.outcome.is_order
        last = next((each for each in job.attempts if each.execution_id == job.execution_id), None)
        if not is_cancelled or last is None or last.outcome is not job.outcome or job.finished_at is None:
            return False
        if datetime.now(UTC) - job.finished_at > LOG_WITHIN:
            return False
        return await self._log_of(job, last.execution_id) is None

    async def log_of_attempt(self, job: Job, execution_id: str) -> JobLog | None:
        """Return the log of one of a job's attempts; None if the job has no such attempt, or the attempt no log yet."""
        if all(attempt.execution_id != execution_id for attempt in job.attempts):
            return None
        if job.is_terminal and job.execution_id == execution_id:
            return await self.log(job)
        return await self._log_of(job, execution_id)

    async def _log_of(self, job: Job, execution_id: str | None) -> JobLog | None:
        generations = {attempt.execution_id: attempt.generation for attempt in job.attempts}
        generation = generations.get(execution_id) if execution_id else None
        return await self.logs.get(job.id, execution_id, generation=generation)

    async def waiting(self, course: str) -> int:
        """Return the number of a course's jobs that wait for their first start."""
        return await self.jobs.count_waiting(course)

    async def position(self, job: Job) -> int | None:
        """Return the number of its course's jobs that start before a job; None unless it waits for its first start."""
        is_lost = not job.course  # it waited in the original's queue, which does not exist any more
        if job.state not in (JobState.QUEUED, JobState.DISPATCHED) or job.started_at or is_lost:
            return None
        return await self.jobs.position(job)

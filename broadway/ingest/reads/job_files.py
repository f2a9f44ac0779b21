"""The files of jobs' submissions, for the graders that have received the jobs."""

import hmac
from dataclasses import dataclass

from broadway.domain.grader import Grader
from broadway.domain.job import Job, JobState
from broadway.domain.submission import Submission, submission_of
from broadway.ingest.reads.stores import JobQueries
from broadway.lifecycle.stores import SubmissionsById
from broadway.messages.ticket import Tickets


@dataclass(frozen=True, slots=True)
class JobFilesReads:
    """Reads of the submissions whose files jobs get."""

    jobs: JobQueries
    submissions: SubmissionsById
    tickets: Tickets

    async def received(self, grader: Grader, job_id: str, ticket: str) -> Job | None:
        """Return a job that a grader has received, and that has not ended; None if there is no such job.

        A grader at the broker has received a job if it has the job's ticket, a colon and the ticket behind the
        generation. A grader behind the gateway is stored as the one that runs the job.
        """
        job = await self.jobs.get(job_id)
        is_received = job is not None and (self._is_held(job, grader) or self._has_ticket(job, ticket))
        return job if is_received else None

    async def submission(self, grader: Grader, job_id: str, ticket: str) -> Submission | None:
        """Return the submission of a job; None if the grader has not received the job, or the job has no submission."""
        job = await self.received(grader, job_id, ticket)
        if job is None:
            return None
        identity = submission_of((await self.jobs.stages([job_id])).get(job_id, []))
        return await self.submissions.get(job.course, identity) if identity else None

    def _is_held(self, job: Job, grader: Grader) -> bool:
        return job.state is JobState.RUNNING and job.grader_id == grader.id

    def _has_ticket(self, job: Job, ticket: str) -> bool:
        own = f"{job.generation}:{self.tickets.of(job.id, job.generation)}"
        return not job.is_terminal and hmac.compare_digest(ticket.encode("utf-8", "replace"), own.encode())

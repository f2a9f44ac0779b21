"""Submissions as resources."""

from broadway.domain.files import PROGRAM
from broadway.domain.job import Job
from broadway.domain.submission import Submission, SubmissionHead
from broadway.domain.webhook import Delivery
from broadway.messages.resources.submissions import FileView, JobFiles, SubmissionJob, SubmissionSummary, SubmissionView


def submission_summary(submission: Submission | SubmissionHead) -> SubmissionSummary:
    return SubmissionSummary(
        id=submission.id,
        assignment=submission.assignment,
        student=submission.student,
        at=submission.at,
        by=submission.by,
        count=submission.count,
        size=submission.size,
    )


def submission_view(submission: Submission, delivery: Delivery | None, job: Job | None = None) -> SubmissionView:
    return SubmissionView(
        **submission_summary(submission).model_dump(),
        archive=submission.archive,
        digest=submission.digest,
        state=delivery.state if delivery else None,
        reason=delivery.reason if delivery else "",
        run_id=delivery.run_id if delivery else None,
        job=_job(job) if job else None,
        files=_files(submission),
    )


def _job(job: Job) -> SubmissionJob:
    return SubmissionJob(id=job.id, state=job.state, outcome=job.outcome, finished_at=job.finished_at)


def job_files(submission: Submission) -> JobFiles:
    return JobFiles(submission=submission.id, files=_files(submission))


def _files(submission: Submission) -> list[FileView]:
    return [
        FileView(path=file.path, size=file.size, sha256=file.sha256, is_program=file.mode == PROGRAM)
        for file in submission.files
    ]

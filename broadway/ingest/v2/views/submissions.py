"""Submissions as resources."""

from broadway.domain.files import PROGRAM
from broadway.domain.job import Job
from broadway.domain.submission import Submission, SubmissionHead
from broadway.domain.visibility import Role, Standing, seen_points
from broadway.domain.webhook import Delivery
from broadway.domain.work import final_marks
from broadway.ingest.v2.views.points import points
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


def submission_view(
    submission: Submission,
    delivery: Delivery | None,
    job: Job | None = None,
    *,
    role: Role = Role.STUDENT,
    standing: Standing | None = None,
) -> SubmissionView:
    """Return a submission, with the points of its job that a role may see; without a ``standing`` there are none."""
    return SubmissionView(
        **submission_summary(submission).model_dump(),
        archive=submission.archive,
        digest=submission.digest,
        state=delivery.state if delivery else None,
        reason=delivery.reason if delivery else "",
        run_id=delivery.run_id if delivery else None,
        job=_job(job, role, standing) if job else None,
        files=_files(submission),
    )


def _job(job: Job, role: Role, standing: Standing | None) -> SubmissionJob:
    marks = final_marks(job)
    seen = seen_points(marks, role, standing) if marks and standing else (None, None)
    return SubmissionJob(id=job.id, state=job.state, outcome=job.outcome, finished_at=job.finished_at, **points(*seen))


def job_files(submission: Submission) -> JobFiles:
    return JobFiles(submission=submission.id, files=_files(submission))


def _files(submission: Submission) -> list[FileView]:
    return [
        FileView(path=file.path, size=file.size, sha256=file.sha256, is_program=file.mode == PROGRAM)
        for file in submission.files
    ]

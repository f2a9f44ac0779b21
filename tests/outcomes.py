"""Sample messages: a job's start and its outcome."""

from datetime import UTC, datetime

from broadway.domain.job import Outcome, Phase
from broadway.messages.events import JobDispatched, JobFinished

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def outcome(
    job_id: str = "j1", *, generation: int = 1, stdout: str = "", stderr: str = "", document: str = ""
) -> JobFinished:
    """Return the event that a job's first start has failed; ``document`` is the results file of its last stage."""
    return JobFinished(
        course="cs1",
        run_id="r1",
        job_id=job_id,
        generation=generation,
        execution_id="e1",
        grader_id="g1",
        started_at=T0,
        finished_at=T0,
        outcome=Outcome.FAILED,
        results=[{"success": True}, {"success": False, "scores": {"document": document}}],
        stdout=stdout,
        stderr=stderr,
    )


def job(job_id: str = "j1", *, generation: int = 1, attempt: int = 1) -> JobDispatched:
    """Return the message that starts a job."""
    return JobDispatched(
        course="cs1",
        run_id="r1",
        job_id=job_id,
        generation=generation,
        assignment="mp1",
        phase=Phase.STUDENTS,
        attempt=attempt,
        stages=[],
    )

"""The outcomes that graders have not reported yet, as another process sees them on the disk."""

from pathlib import Path

from broadway.grader.worker.spool import NAME, unreported
from broadway.messages.events import JobFinished
from broadway.messages.http import JobResult


def spooled(work: Path) -> list[str]:
    """Return all outcomes below some work directories that are not confirmed, as ``<file>: <job>``."""
    return [
        f"{path}: {job_id}"
        for path in sorted(work.rglob(NAME))
        for job_id, _, _ in unreported(path.parent, JobFinished if path.parent.parent.name == "amqp" else JobResult)
    ]

"""The order in which waiting jobs of one course start, if nothing changes. Pure."""

from datetime import datetime

from broadway.domain.job import JobClass

WaitingKey = tuple[bool, datetime, int, str]


def waiting_key(job_id: str, job_class: JobClass, queued_at: datetime, index: int) -> WaitingKey:
    """Return the sort key of a waiting job: interactive ones first, then by time, roster and id; the id is last."""
    return job_class is JobClass.BULK, queued_at, index, job_id

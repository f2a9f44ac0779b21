"""Jobs as earlier versions stored them."""

from dataclasses import replace
from datetime import datetime

from broadway.domain.job import Job, JobState


def dispatched(job: Job, at: datetime) -> Job:
    """Return a queued job as dispatched, which earlier versions stored before its start; any other job as it is."""
    is_queued = job.state is JobState.QUEUED
    return replace(job, state=JobState.DISPATCHED, dispatched_at=at, not_before=None) if is_queued else job

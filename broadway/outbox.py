"""Publishing queued jobs to their courses' backlogs: the job documents are the outbox."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from broadway.events import JobQueued
from broadway.job import Job
from broadway.ports import Publisher, PublishError
from broadway.topology import JOBS, course_key

log = structlog.get_logger(__name__)

WINDOW = 100  # unconfirmed publishes at a time


class PublishedJobs(Protocol):
    """The part of the job store that the outbox needs."""

    async def mark_published(self, jobs: Sequence[Job]) -> None:
        """Take jobs out of the outbox, unless they have moved since they were read."""


async def publish_queued(queued: Sequence[Job], *, jobs: PublishedJobs, publisher: Publisher) -> None:
    """Publish jobs to their courses' backlogs and mark them published.

    What the broker does not take stays in the outbox, and the reconciler comes back for it.
    """
    for start in range(0, len(queued), WINDOW):
        window = queued[start : start + WINDOW]
        taken = await asyncio.gather(*(_publish(job, publisher) for job in window))
        published = [job for job, confirmed in zip(window, taken, strict=True) if confirmed]
        await jobs.mark_published(published)
        if len(published) < len(window):
            return


async def _publish(job: Job, publisher: Publisher) -> bool:
    event = JobQueued(
        course=job.course, run_id=job.run_id, job_id=job.id, generation=job.generation, job_class=job.job_class
    )
    try:
        await publisher.publish(JOBS, course_key(job.course, job.job_class), event)
    except PublishError as error:
        log.warning("job stays in the outbox", job=job.id, course=job.course, error=str(error))
        return False
    return True

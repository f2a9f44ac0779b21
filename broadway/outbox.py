"""Publishing queued jobs to their courses' backlogs."""

import asyncio
from collections.abc import Sequence

import structlog

from broadway.crashpoints import Point, reach
from broadway.events import JobQueued, ids_of
from broadway.job import Job
from broadway.ports import Publisher, PublishError
from broadway.topology import JOBS, course_key

log = structlog.get_logger(__name__)

WINDOW = 100  # unconfirmed publishes at a time


async def publish_queued(queued: Sequence[Job], *, publisher: Publisher) -> bool:
    """Publish jobs to their courses' backlogs, in order.

    Returns:
        Whether the broker has taken all of them; if not, those after the first refusal's window were not tried.
    """
    for start in range(0, len(queued), WINDOW):
        window = queued[start : start + WINDOW]
        if not all(await asyncio.gather(*(_publish(job, publisher) for job in window))):
            return False
    return True


async def _publish(job: Job, publisher: Publisher) -> bool:
    event = JobQueued(**ids_of(job), job_class=job.job_class)
    try:
        await publisher.publish(JOBS, course_key(job.course, job.job_class), event)
    except PublishError as error:
        log.warning("job not published", job=job.id, course=job.course, error=str(error))
        return False
    await reach(Point.OUTBOX_PUBLISHED_ONE)
    return True

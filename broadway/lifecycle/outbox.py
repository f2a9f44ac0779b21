"""Publish queued jobs to their courses' backlogs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from broadway.domain.job import Job
from broadway.messages.events import JobQueued, ids_of
from broadway.messages.topology import JOBS, course_key
from broadway.ports import Publisher, PublishError
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

WINDOW = 100  # unconfirmed publishes at a time


async def publish_queued(
    queued: Sequence[Job], *, publisher: Publisher, may_continue: Callable[[], Awaitable[bool]] | None = None
) -> bool:
    """Publish jobs to their courses' backlogs, in order.

    ``may_continue`` is called before each window of publishes; False stops the publishing.

    Returns:
        True if the broker has confirmed every job. After a refusal, later windows are not published.
    """
    for start in range(0, len(queued), WINDOW):
        if may_continue and not await may_continue():
            return False
        window = queued[start : start + WINDOW]
        if not all(await asyncio.gather(*(_publish(job, publisher) for job in window))):
            return False
    return True


async def _publish(job: Job, publisher: Publisher) -> bool:
    event = JobQueued(**ids_of(job), job_class=job.job_class)
    try:
        await publisher.publish(JOBS, course_key(job.course, job.job_class), event)
    except PublishError as error:
        log.warning("job not published", error=str(error), **job.context)
        return False
    await reach(Point.OUTBOX_PUBLISHED_ONE)
    return True

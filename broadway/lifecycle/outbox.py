"""Publish queued jobs to their courses' backlogs, up to 50 in a message."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

import structlog

from broadway.domain.job import Job, JobClass
from broadway.domain.parts import in_parts
from broadway.messages.batches import JobsQueued, packed
from broadway.messages.events import Event, JobQueued, ids_of
from broadway.messages.topology import JOBS, course_key
from broadway.ports import Publisher, PublishError
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

WINDOW = 500  # jobs whose messages are unconfirmed at a time


async def publish_queued(
    queued: Sequence[Job], *, publisher: Publisher, may_continue: Callable[[], Awaitable[bool]] | None = None
) -> bool:
    """Publish jobs to their courses' backlogs, in order; neighbors of one course and class share messages.

    ``may_continue`` is called before each window of publishes; False stops the publishing.

    Returns:
        True if the broker has confirmed every job. After a refusal, later windows are not published.
    """
    for some in in_parts(queued, WINDOW):
        if may_continue and not await may_continue():
            return False
        messages = _messages(some)
        if not all(await asyncio.gather(*(_publish(key, message, publisher) for key, message in messages))):
            return False
    return True


def _messages(jobs: Sequence[Job]) -> list[tuple[str, Event]]:
    """Return the messages about jobs, each with its routing key."""
    events = [JobQueued(**ids_of(job), job_class=job.job_class) for job in jobs]
    backlogs = itertools.groupby(events, key=JobsQueued.owner)
    return [
        (course_key(course, JobClass(job_class)), message)
        for (course, job_class), neighbors in backlogs
        for message in packed(JobsQueued, neighbors)
    ]


async def _publish(key: str, message: Event, publisher: Publisher) -> bool:
    try:
        await publisher.publish(JOBS, key, message)
    except PublishError as error:
        log.warning("jobs not published", error=str(error), about=message.subject, **message.context)
        return False
    await reach(Point.OUTBOX_PUBLISHED_ONE)
    return True

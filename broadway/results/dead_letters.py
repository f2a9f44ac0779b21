"""The consumer of dead letters: keeps them for operators, and ends the jobs that they would otherwise hang."""

from datetime import UTC, datetime
from typing import Protocol

import structlog

from broadway.domain.job import FaultPhase, Job
from broadway.lifecycle.follow_ups import settled
from broadway.lifecycle.stores import JobMoves
from broadway.messages.events import DeadLetter, Event, JobDispatched, JobFinished
from broadway.ports import Publisher, PublishError, Retry, StoreError
from broadway.runtime import metrics

log = structlog.get_logger(__name__)

_FATAL = (JobDispatched.type, JobFinished.type)


class LetterStore(Protocol):
    """Dead letters that can be stored."""

    async def put(self, *, message_id: str, subject: str, queue: str, reason: str, body: bytes) -> None:
        """Store a dead letter; the same message from the same queue again is counted, not stored twice."""


async def handle_dead_letter(event: Event, *, jobs: JobMoves, letters: LetterStore, publisher: Publisher) -> None:
    """File a dead letter; an outage is no end of it.

    Raises:
        Retry: The store or the broker is unavailable.
    """
    assert isinstance(event, DeadLetter)  # noqa: S101 - the queue's decoder makes nothing else
    try:
        await file_dead_letter(event, jobs=jobs, letters=letters, publisher=publisher)
    except (StoreError, PublishError) as error:
        raise Retry(str(error)) from error


async def file_dead_letter(event: DeadLetter, *, jobs: JobMoves, letters: LetterStore, publisher: Publisher) -> None:
    """Keep one dead letter; if it was a job on its way or an outcome, end that job as an infrastructure error."""
    log.error("dead letter", queue=event.queue, about=event.subject, reason=event.reason)
    await letters.put(
        message_id=event.message_id,
        subject=event.subject,
        queue=event.queue,
        reason=event.reason,
        body=event.body,
    )
    metrics.DEAD_LETTERS.labels(event.queue).inc()
    if event.message_type not in _FATAL:
        return
    job_id = event.subject.rpartition("/")[2]
    moved = await jobs.move({job_id: lambda job: _end(job, event)})
    for job in moved.values():
        if job.after.is_terminal:
            await publisher.publish(*settled(job.after))


def _end(job: Job, letter: DeadLetter) -> Job:
    """The letter must be about this generation, or about an execution that the job is waiting for."""
    about_this = letter.message_id.startswith((f"{job.id}:{job.generation}:", f"{job.execution_id}:"))
    if not about_this:
        return job
    what = "the job" if letter.message_type == JobDispatched.type else "its outcome"
    reason = f"{what} could not be handled and became a dead letter: {letter.reason}"
    return job.give_up(reason, FaultPhase.REPORT, datetime.now(UTC))

"""The consumer of dead letters: it stores them for operators and ends jobs that would otherwise never finish."""

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
    """The operations on stored dead letters that their consumer needs."""

    async def put(self, *, message_id: str, subject: str, queue: str, reason: str, body: bytes) -> None:
        """Store a dead letter; a repetition of the same message from the same queue only increments a count."""


async def handle_dead_letter(event: Event, *, jobs: JobMoves, letters: LetterStore, publisher: Publisher) -> None:
    """File a dead letter; ask for another try if the store or the broker is unavailable.

    Raises:
        Retry: The store or the broker is unavailable.
    """
    assert isinstance(event, DeadLetter)  # noqa: S101 - the queue's decoder returns only dead letters
    try:
        await file_dead_letter(event, jobs=jobs, letters=letters, publisher=publisher)
    except (StoreError, PublishError) as error:
        raise Retry(str(error)) from error


async def file_dead_letter(event: DeadLetter, *, jobs: JobMoves, letters: LetterStore, publisher: Publisher) -> None:
    """Store one dead letter; if it was a dispatched job or an outcome, end that job as an infrastructure error."""
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
    """End a job if the letter concerns its present generation or the execution that it waits for."""
    is_current = letter.message_id.startswith((f"{job.id}:{job.generation}:", f"{job.execution_id}:"))
    if not is_current:
        return job
    subject = "the job" if letter.message_type == JobDispatched.type else "its outcome"
    reason = f"{subject} could not be handled and became a dead letter: {letter.reason}"
    return job.give_up(reason, FaultPhase.REPORT, datetime.now(UTC))

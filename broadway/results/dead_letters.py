"""The consumer of dead letters: it stores them for operators and ends jobs that would otherwise never finish."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog

from broadway.domain.job import FaultPhase, Job, JobState
from broadway.domain.moves import Move
from broadway.lifecycle.follow_ups import settled
from broadway.lifecycle.stores import JobMoves
from broadway.messages.batches import parts_of
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
    """Store one dead letter; if it was a dispatched job or outcomes, end these jobs as infrastructure errors.

    A letter that no service has sent ends no job: its sender may have made it up. The job goes on, and the reconciler
    repairs what the lost message leaves undone.
    """
    log.error("dead letter", queue=event.queue, about=event.subject, reason=event.reason, sender=event.sender)
    await letters.put(
        message_id=event.message_id,
        subject=event.subject,
        queue=event.queue,
        reason=event.reason if event.is_proven else f"{event.reason}; {_unproven(event)}",
        body=event.body,
    )
    metrics.DEAD_LETTERS.labels(event.queue if event.is_proven else metrics.UNPROVEN).inc()
    if not event.is_proven:
        return
    moved = await jobs.move(_moves(event))
    for job in moved.values():
        if job.after.is_terminal:
            await publisher.publish(*settled(job.after))


def _unproven(letter: DeadLetter) -> str:
    return f"no service sent it, but {letter.sender or 'an unknown sender'}, so that no job ends by it"


def _moves(letter: DeadLetter) -> dict[str, Move]:
    """Return the moves that end the jobs of a letter: a dispatched job, or outcomes. Other letters end no job."""
    if letter.about is None:
        is_fatal = letter.message_type in _FATAL
        is_named = partial(_is_named, letter.named_id)
        return {letter.subject.rpartition("/")[2]: _ending(letter, is_named)} if is_fatal else {}
    return {
        event.job_id: _ending(letter, partial(_is_about, event))
        for event in parts_of(letter.about)
        if isinstance(event, JobDispatched | JobFinished) and not _is_log_only(event)
    }


def _is_log_only(event: JobDispatched | JobFinished) -> bool:
    """Return whether an outcome only brings the output of a cancelled job."""
    return isinstance(event, JobFinished) and event.outcome.is_order


def _is_about(event: JobDispatched | JobFinished, job: Job) -> bool:
    """Return whether an event concerns a job's present generation, and, as an outcome, the execution it waits for.

    The start of that execution may not be recorded.
    """
    if event.generation != job.generation:
        return False
    if isinstance(event, JobDispatched) or event.execution_id == job.execution_id:
        return True
    return job.state is not JobState.RUNNING and not job.knows(event.execution_id)


def _is_named(message_id: str, job: Job) -> bool:
    """Return whether a message's id names the job's present generation, or the execution that the job waits for."""
    return message_id.startswith((f"{job.id}:{job.generation}:", f"{job.execution_id}:"))


def _ending(letter: DeadLetter, is_current: Callable[[Job], bool]) -> Move:
    """Return the move that ends a job if the letter concerns its present generation or execution."""
    subject = "the job" if letter.message_type == JobDispatched.type else "its outcome"
    reason = f"{subject} could not be handled and became a dead letter: {letter.reason}"

    def end(job: Job) -> Job:
        return job.give_up(reason, FaultPhase.REPORT, datetime.now(UTC)) if is_current(job) else job

    return end

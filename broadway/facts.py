"""The facts that follow from a stored job, ready to be published."""

from datetime import UTC, datetime

from broadway.events import Event, JobRequeued, JobSettled, ids_of
from broadway.job import Job, JobState, Moved
from broadway.topology import EVENTS, Exchange, event_key

Fact = tuple[Exchange, str, Event]


def following(moved: Moved) -> list[Fact]:
    """What the rest of the system must hear about a move that was stored."""
    if not moved.changed:
        return []
    if moved.after.is_terminal:
        return [settled(moved.after)]
    return [requeued(moved.after)] if moved.after.state is JobState.QUEUED else []


def settled(job: Job) -> Fact:
    """The fact that a job's outcome is final."""
    assert job.outcome is not None  # noqa: S101 - terminal jobs have one
    fact = JobSettled(**ids_of(job), phase=job.phase, outcome=job.outcome, reason=job.reason, seconds=job.seconds)
    return EVENTS, event_key("job", "settled", job.course), fact


def requeued(job: Job) -> Fact:
    """The fact that a job waits for another attempt."""
    reason = job.attempts[-1].reason if job.attempts else ""
    fact = JobRequeued(**ids_of(job), not_before=job.not_before or datetime.now(UTC), reason=reason)
    return EVENTS, event_key("job", "requeued", job.course), fact

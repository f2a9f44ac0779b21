"""The facts that follow from a stored job, ready to be published."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from broadway.domain.bounds import MAX_SECONDS
from broadway.domain.grader import StandingOrder
from broadway.domain.job import Job, JobState, Outcome
from broadway.domain.moves import Moved
from broadway.domain.spans import of_job
from broadway.messages.batches import JobsSettled, packed, parts_of
from broadway.messages.events import CancelJob, Event, GraderOrder, JobRequeued, JobSettled, ids_of
from broadway.messages.topology import CONTROL, EVENTS, Exchange, control_key, event_key
from broadway.runtime import tracing

Fact = tuple[Exchange, str, Event]


def following(moved: Moved) -> list[Fact]:
    """Return the facts to publish about a stored move, and export the spans of a job that it ends."""
    if not moved.changed:
        return []
    trace(moved)
    if moved.after.generation != moved.before.generation:
        return _outdated(moved)
    if moved.after.is_terminal:
        return [settled(moved.after)]
    return [requeued(moved.after)] if moved.after.state is JobState.QUEUED else []


def trace(moved: Moved) -> None:
    """Export the spans of a job that a stored move has ended."""
    if tracing.is_on() and moved.ends:
        tracing.export(of_job(moved.after))


def facts_of(moved: Mapping[str, Moved]) -> tuple[Fact, ...]:
    """The facts that follow from moves of jobs, as few messages."""
    return tuple(together([fact for m in moved.values() for fact in following(m)]))


def together(facts: Sequence[Fact]) -> list[Fact]:
    """Return facts as few messages: the settled jobs of a course become one, which precedes commands to their graders.

    The dispatcher should know that jobs have ended before a stopped grader has a free slot for the next ones.
    """
    ended = sorted((event for _, _, event in facts if isinstance(event, JobSettled)), key=JobsSettled.owner)
    others = [fact for fact in facts if not isinstance(fact[2], JobSettled)]
    return [_about_settled(message) for message in packed(JobsSettled, ended)] + others


def _about_settled(message: Event) -> Fact:
    course = next(part.course for part in parts_of(message) if isinstance(part, JobSettled))
    return EVENTS, event_key("job", "settled", course), message


def _outdated(moved: Moved) -> list[Fact]:
    """Return the facts for a job that was cancelled or restarted: its present grader must stop."""
    facts = [settled(moved.after)] if moved.after.is_terminal else []
    if moved.before.state is JobState.RUNNING and moved.before.grader_id:
        facts.append(unwanted(moved.after, moved.before.grader_id, moved.before.generation))
    return facts


def unwanted(job: Job, grader_id: str, generation: int) -> Fact:
    """The command to a grader to stop its execution of a job's ``generation``."""
    reason = (
        job.reason if job.outcome in (Outcome.CANCELLED, Outcome.SUPERSEDED) else "the job has ended or starts again"
    )
    command = CancelJob(**{**ids_of(job), "generation": generation}, reason=reason)
    return CONTROL, control_key(grader_id), command


def ordered(grader_id: str, order: StandingOrder) -> Fact:
    """The command that carries a standing order to its grader."""
    return CONTROL, control_key(grader_id), GraderOrder.of(grader_id, order)


def settled(job: Job) -> Fact:
    """The fact that a job's outcome is final."""
    outcome = job.outcome or (Outcome.SUCCEEDED if job.success else Outcome.FAILED)
    seconds = min(max(0.0, job.seconds), MAX_SECONDS)  # a clock may have been set between two times
    fact = JobSettled(**ids_of(job), phase=job.phase, outcome=outcome, reason=job.reason, seconds=seconds)
    return EVENTS, event_key("job", "settled", job.course), fact


def requeued(job: Job) -> Fact:
    """The fact that a job waits for another attempt."""
    reason = job.attempts[-1].reason if job.attempts else ""
    fact = JobRequeued(**ids_of(job), not_before=job.not_before or datetime.now(UTC), reason=reason)
    return EVENTS, event_key("job", "requeued", job.course), fact

"""The spans of a job in the trace of its request: its wait, its attempts and their stages. Pure.

The ids of spans are derived from those of jobs and executions. So a service can name the parent of a span that another
service makes, and a span that is made twice has one id.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broadway.domain.job import Attempt, Job, Outcome
from broadway.domain.result import StageResult
from broadway.domain.trace import ids_of

_SAMPLED_BITS = 56  # of a trace id are random, by W3C Trace Context

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """A step, with its times and facts about it.

    Args:
        trace_id: Id of the trace: 32 hexadecimal digits.
        span_id: Id of the span: 16 hexadecimal digits.
        parent_id: Id of the span that it is a part of; empty for the first one.
        name: The kind of step.
        start: Its beginning.
        end: Its end.
        attributes: Facts by name.
        error: The infrastructure's error, if there was one; empty for a submission that fails.
        is_request: True for a request to the API.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start: datetime
    end: datetime
    attributes: Mapping[str, Value] = field(default_factory=dict)
    error: str = ""
    is_request: bool = False


def is_sampled(trace_id: str, share: float) -> bool:
    """Return whether a trace is among the share (0 to 1) whose spans are exported: the same in every service."""
    bits = int(trace_id, 16) & ((1 << _SAMPLED_BITS) - 1)
    return bits < share * (1 << _SAMPLED_BITS)


def of_job(job: Job) -> list[Span]:
    """Return the spans of a job that has ended: the job, its wait for the first attempt, and its attempts."""
    if job.traceparent is None or job.finished_at is None:
        return []
    trace_id, request = ids_of(job.traceparent)
    attempts = [each for each in job.attempts if each.started_at >= job.queued_at and not each.released]
    first = min((each.started_at for each in attempts), default=job.finished_at)
    own, wait = _job_id(job), _wait_id(job)
    attributes: dict[str, Value] = {**_about(job), "broadway.attempts": len(attempts)}
    if job.outcome:
        attributes["broadway.outcome"] = job.outcome.value
    return [
        Span(trace_id, own, request, "job", job.queued_at, job.finished_at, attributes, error=_error(job)),
        Span(trace_id, wait, own, "wait", job.queued_at, first, {"broadway.pool": job.pool}),
        *(_of_attempt(each, trace_id, own, job.finished_at) for each in attempts),
    ]


def of_backlog(job: Job, handed_over: datetime) -> list[Span]:
    """Return the span of the time until a job was handed over to the graders of its pool: a part of its wait."""
    if job.traceparent is None:
        return []
    trace_id, _ = ids_of(job.traceparent)
    span_id = _derived("backlog", job.id, str(job.round), str(job.starts))
    start = max(job.queued_at, job.not_before or job.queued_at)
    parent = _job_id(job) if job.starts else _wait_id(job)
    return [Span(trace_id, span_id, parent, "backlog", start, max(start, handed_over), {"broadway.pool": job.pool})]


def of_stages(traceparent: str | None, execution_id: str, results: Sequence[StageResult]) -> list[Span]:
    """Return the spans of an execution's stages, as far as the grader reported their times."""
    if traceparent is None:
        return []
    trace_id, _ = ids_of(traceparent)
    return list(_of_stages(trace_id, execution_id, results))


def _of_stages(trace_id: str, execution_id: str, results: Sequence[StageResult]) -> Iterator[Span]:
    parent = _derived("attempt", execution_id)
    for number, result in enumerate(results, 1):
        start, end = result.started_at, result.finished_at
        if start is None or end is None or end < start:
            continue
        attributes: dict[str, Value] = {"broadway.stage": number}
        if result.exit_code is not None:
            attributes["broadway.exit_code"] = result.exit_code
        if result.killed_for:
            attributes["broadway.killed_for"] = result.killed_for
        if result.usage and result.usage.image:
            attributes["broadway.image"] = result.usage.image
        span_id = _derived("stage", execution_id, str(number))
        yield Span(trace_id, span_id, parent, "stage", start, end, attributes)
        yield from _of_start(trace_id, span_id, start, result)


def _of_start(trace_id: str, stage_id: str, start: datetime, result: StageResult) -> Iterator[Span]:
    """Yield the span of making a stage's container, which ends when the stage starts."""
    seconds = sum(filter(None, (result.usage.create_seconds, result.usage.start_seconds))) if result.usage else 0
    if 0 < seconds < timedelta.max.total_seconds():
        yield Span(trace_id, _derived("container", stage_id), stage_id, "container", _before(start, seconds), start)


def _before(moment: datetime, seconds: float) -> datetime:
    try:
        return moment - timedelta(seconds=seconds)
    except OverflowError:
        return moment


def _of_attempt(attempt: Attempt, trace_id: str, parent: str, over: datetime) -> Span:
    attributes: dict[str, Value] = {"broadway.grader": attempt.grader_id, "broadway.execution": attempt.execution_id}
    if attempt.outcome:
        attributes["broadway.outcome"] = attempt.outcome.value
    error = attempt.reason if attempt.outcome is Outcome.INFRASTRUCTURE_ERROR else ""
    if attempt.outcome is None and attempt.ended_at is None:
        error = "the grader has not reported its end"
    end = max(attempt.started_at, attempt.ended_at or over)
    span_id = _derived("attempt", attempt.execution_id)
    return Span(trace_id, span_id, parent, "attempt", attempt.started_at, end, attributes, error=error)


def _about(job: Job) -> dict[str, Value]:
    return {
        "broadway.course": job.course,
        "broadway.assignment": job.assignment,
        "broadway.run": job.run_id,
        "broadway.job": job.id,
        "broadway.phase": job.phase.value,
        "broadway.class": job.job_class.value,
        "broadway.pool": job.pool,
        "broadway.round": job.round,
    }


def _error(job: Job) -> str:
    return job.reason or "infrastructure error" if job.outcome is Outcome.INFRASTRUCTURE_ERROR else ""


def _job_id(job: Job) -> str:
    return _derived("job", job.id, str(job.round))


def _wait_id(job: Job) -> str:
    return _derived("wait", job.id, str(job.round))


def _derived(*names: str) -> str:
    """Return a span id, 16 hexadecimal digits, that follows from names."""
    return hashlib.sha256("/".join(names).encode()).hexdigest()[:16]

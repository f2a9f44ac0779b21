"""Record graders' events: store reports and outcomes, update the jobs, then publish the facts that follow."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from typing import Protocol, TypeVar

import structlog

from broadway.domain.deletion import ERASED
from broadway.domain.grader import StandingOrder
from broadway.domain.job import Attempt, Job, Outcome, RetryPolicy
from broadway.domain.marks import Marks
from broadway.domain.moves import Move, Moved
from broadway.domain.result import JobLog, StageResult
from broadway.domain.spans import of_stages
from broadway.lifecycle.follow_ups import Fact, following, ordered, settled, together, trace, unwanted
from broadway.lifecycle.reports import RecordedReports, marks_of, record_reports, without_reports
from broadway.lifecycle.stores import JobLeases, JobsById
from broadway.messages.events import Event, GraderHeartbeat, JobEvent, JobFinished, JobReleased, JobStarted
from broadway.ports import Publisher, Reject
from broadway.runtime import fault_history, metrics, tracing
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

Recorded = TypeVar("Recorded")

UNUSED = 1 / 3  # a lease is renewed only after this fraction of it has passed: most jobs have ended by then
# Characters of a log that is stored with its outcome; a larger one could leave no room for the results.
MAX_WITH_OUTCOME = 1024 * 1024


class RecordedJobs(JobsById, JobLeases, Protocol):
    """The operations on stored jobs that recording needs."""

    async def move(self, moves: Mapping[str, Move], *, logs: Mapping[str, JobLog]) -> dict[str, Moved]:
        """Apply moves to jobs by id; return the jobs that exist, before and after.

        ``logs`` has logs by execution id. Those of executions that end their jobs are stored with the outcomes.
        """


class RecordedLogs(Protocol):
    """The operation on stored logs that recording needs."""

    async def put(self, logs: Sequence[JobLog]) -> None:
        """Store logs that belong to no outcome; a log that is already stored stays as it is."""

    async def remove(self, job_id: str, executions: Sequence[str]) -> None:
        """Remove the logs of executions of a job."""


class RecordedGraders(Protocol):
    """The operations on stored graders that recording needs."""

    async def beat(self, heartbeats: Sequence[GraderHeartbeat], *, now: datetime) -> list[GraderHeartbeat]:
        """Store heartbeats as received at ``now``, and return those that are not for a foreign pool.

        A heartbeat older than the stored one changes nothing. Slots beyond those that a grader may have do not count.
        """

    async def count_starts(self, starts: dict[str, int]) -> None:
        """Add to graders' counts of started jobs; ``starts`` maps grader ids to numbers."""

    async def orders(self, grader_ids: Sequence[str]) -> dict[str, StandingOrder]:
        """Return the standing orders of graders by id; graders without an order are left out."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records batches of events. Recording is idempotent."""

    jobs: RecordedJobs
    logs: RecordedLogs
    graders: RecordedGraders
    publisher: Publisher
    policy: RetryPolicy
    lease: timedelta
    reports: RecordedReports

    async def record(self, events: Sequence[Event], *, displaces: bool = False) -> dict[str, Moved]:
        """Store a batch and publish the facts that follow from it.

        With ``displaces``, the events' executions take their jobs from the graders that run them.

        Returns:
            The known jobs of the events, before and after, by id.

        Raises:
            PublishError: The broker did not take a fact; the caller must record the batch again.
        """
        events, reports = without_reports(events)
        about_jobs = [event for event in events if isinstance(event, JobEvent)]
        beats = [event for event in events if isinstance(event, GraderHeartbeat) and not event.gateway]
        await reach(Point.RECORD_BEGUN)
        await record_reports(self.reports, reports)
        finished = [event for event in about_jobs if isinstance(event, JobFinished)]
        logs = {event.execution_id: _log(event) for event in finished}
        await self.logs.put([each for each in logs.values() if _is_large(each)])
        await reach(Point.RECORD_LARGE_LOGS_STORED)
        small = {execution_id: each for execution_id, each in logs.items() if not _is_large(each)}
        moves = self._moves(about_jobs, marks_of(about_jobs, reports), displaces=displaces)
        moved = await self.jobs.move(moves, logs=small)
        for job in moved.values():
            if job.changed and job.after.is_terminal:
                _note_outcome(job.after)
        await reach(Point.RECORD_JOBS_STORED)
        await self.logs.put(
            [small[e.execution_id] for e in finished if e.execution_id in small and _is_apart(e, moved)]
        )
        await self._forget([event for event in finished if _is_unknown(event, moved)])
        await reach(Point.RECORD_LOGS_STORED)
        _count_outcomes(about_jobs, moved)
        await self._record_graders(about_jobs, moved, beats)
        await reach(Point.RECORD_GRADERS_STORED)
        await asyncio.gather(*(self.publisher.publish(*fact) for fact in _facts(about_jobs, moved)))
        await reach(Point.RECORD_TOLD)
        if tracing.is_on():
            _trace(finished, moved)
        return moved

    async def _forget(self, unknown: Sequence[JobFinished]) -> None:
        """Remove what was stored for jobs that were removed, or cleared, before their outcome came."""
        for event in unknown:
            await self.reports.remove(event.job_id, [event.execution_id])
            await self.logs.remove(event.job_id, [event.execution_id])

    async def _record_graders(
        self, events: Sequence[JobEvent], moved: dict[str, Moved], beats: Sequence[GraderHeartbeat]
    ) -> None:
        if beats:
            now = datetime.now(UTC)
            beats = await self.graders.beat(beats, now=now)
            running = [job for beat in beats for job in beat.running]
            until = now + self.lease
            await self.jobs.renew_leases(
                [r.execution_id for r in running],
                [r.job_id for r in running],
                until,
                unless_after=until - self.lease * UNUSED,
            )
            await self._stop_unwanted(beats)
            await self._repeat_orders(beats)
        reports = (event for event in events if isinstance(event, JobStarted | JobFinished))  # a start may be implied
        starts = {event.execution_id: event.grader_id for event in reports if _is_new(event, moved)}
        await self.graders.count_starts(dict(Counter(starts.values())))

    async def _stop_unwanted(self, beats: Sequence[GraderHeartbeat]) -> None:
        """Repeat the commands to stop outdated executions that graders still run: the first command may be lost."""
        jobs = await self.jobs.get_many([running.job_id for beat in beats for running in beat.running])
        for beat in beats:
            for running in beat.running:
                job = jobs.get(running.job_id)
                if job and _is_outdated(job, running.generation, running.execution_id):
                    await self.publisher.publish(*unwanted(job, beat.grader_id, running.generation))

    async def _repeat_orders(self, beats: Sequence[GraderHeartbeat]) -> None:
        """Repeat standing orders to graders that have not received them, as after an interrupted connection."""
        orders = await self.graders.orders([beat.grader_id for beat in beats if not beat.leaving])
        for beat in beats:
            order = orders.get(beat.grader_id)
            if order and order.revision > beat.order:
                await self.publisher.publish(*ordered(beat.grader_id, order))

    def _moves(self, events: Sequence[JobEvent], marks: Mapping[str, Marks], *, displaces: bool) -> dict[str, Move]:
        # The time of recording is the same for all outcomes of a batch, so that their jobs' updates are equal; and not
        # the events' time, since graders' clocks may differ.
        now = datetime.now(UTC)
        by_job: dict[str, list[JobEvent]] = {}
        for event in events:
            by_job.setdefault(event.job_id, []).append(event)
        apply = partial(self._apply, marks=marks, displaces=displaces, now=now)
        return {job_id: partial(reduce, apply, about) for job_id, about in by_job.items()}

    def _apply(self, job: Job, event: JobEvent, *, marks: Mapping[str, Marks], displaces: bool, now: datetime) -> Job:
        if event.generation != job.generation:
            log.info("stale generation", event_type=event.type, generation=event.generation, **event.context)
            return job
        match event:
            case JobStarted():
                attempt = Attempt(
                    event.execution_id,
                    event.grader_id,
                    event.started_at,
                    deadline=event.deadline,
                    redelivered=event.redelivered,
                )
                return job.start(attempt, lease=self.lease, policy=self.policy, now=now, displaces=displaces)
            case JobFinished():
                if job.is_terminal and job.execution_id != event.execution_id:
                    log.info("duplicate outcome", **event.context)
                execution = replace(event.execution, marks=marks.get(event.execution_id))
                return job.finish(execution, policy=self.policy, now=now, displaces=displaces)
            case JobReleased():
                return job.release(event.execution_id, now, grader_id=event.grader_id)
            case _:
                return job


async def record_what_can_be(
    event: Event,
    record: Callable[[Event], Awaitable[Recorded]],
    *,
    refusal: Callable[[Exception], str | None],
) -> Recorded:
    """Record an event. If the store refuses an outcome, drop its results, then its logs as well.

    Args:
        event: The event to record.
        record: Records one event.
        refusal: Returns the store's objection to a document; None for errors of other kinds.

    Raises:
        Reject: The store refuses the event, even reduced.
    """
    reductions = _reductions(event)
    while True:
        try:
            return await record(event)
        except Exception as error:
            reason = refusal(error)
            if reason is None:
                raise
            about = {"event_type": event.type, **event.context}
            log.error("the store refuses an event", reason=reason, **about)  # noqa: TRY400 - a driver's error may hold the document
            reduce_event = next(reductions, None)
            if reduce_event is None:
                raise Reject(f"the store refuses it: {reason}") from error
            event = reduce_event(reason)


def _reductions(event: Event) -> Iterator[Callable[[str], Event]]:
    """Yield ever smaller replacements for an event that the store refuses, each made from the store's objection."""
    if isinstance(event, JobFinished):
        yield event.without_results
        yield lambda reason: event.without_results(reason).without_logs()


def _trace(finished: Sequence[JobFinished], moved: Mapping[str, Moved]) -> None:
    """Export the spans of stages and of the jobs that they have ended."""
    for event in finished:
        if event.job_id in moved and moved[event.job_id].changed:
            results = [StageResult.read(entry) for entry in event.results]
            tracing.export(of_stages(event.traceparent, event.execution_id, results))
    for job_id in {event.job_id for event in finished} & moved.keys():
        trace(moved[job_id])


def _is_unknown(event: JobFinished, moved: Mapping[str, Moved]) -> bool:
    """Return whether the job of an outcome does not exist, or the data of its student were deleted."""
    return event.job_id not in moved or moved[event.job_id].after.reason == ERASED


def _note_outcome(job: Job) -> None:
    fault_history.note(
        "outcome",
        run=job.run_id,
        job=job.id,
        generation=job.generation,
        execution=job.execution_id,
        outcome=job.outcome.value if job.outcome else None,
    )


def _count_outcomes(events: Sequence[JobEvent], moved: Mapping[str, Moved]) -> None:
    for event in events:
        if not isinstance(event, JobFinished) or _is_contested(event, moved):
            continue
        if refusal := _refusal(event, moved.get(event.job_id)):
            metrics.OUTCOMES_REFUSED.labels(refusal).inc()
        elif event.outcome is Outcome.INFRASTRUCTURE_ERROR:
            kind = metrics.Fault.ENGINE if event.retryable else metrics.Fault.ASSIGNMENT
            metrics.INFRASTRUCTURE_ERRORS.labels(event.fault_phase, kind).inc()


def _refusal(event: JobFinished, moved: Moved | None) -> metrics.Refusal | None:
    """The reason for ignoring an outcome; None if it was recorded."""
    if moved is None:
        return metrics.Refusal.UNKNOWN
    if event.generation != moved.before.generation:
        return metrics.Refusal.STALE
    if any(a.execution_id == event.execution_id and a.outcome is not None for a in moved.before.attempts):
        return metrics.Refusal.REPEATED
    known = next((a for a in moved.after.attempts if a.execution_id == event.execution_id), None)
    if known is not None and (known.released or known.grader_id != event.grader_id):
        return metrics.Refusal.RELEASED if known.released else metrics.Refusal.UNKNOWN
    if moved.after.is_terminal and moved.after.execution_id != event.execution_id:
        return metrics.Refusal.DUPLICATE
    return None


def _is_contested(event: JobFinished, moved: Mapping[str, Moved]) -> bool:
    """Return whether an outcome was not recorded because another grader runs its job; see ``contests``."""
    job = moved[event.job_id].after if event.job_id in moved else None
    if job is None or job.generation != event.generation or job.knows(event.execution_id):
        return False
    return job.is_contested_by(event.grader_id)


def _log(event: JobFinished) -> JobLog:
    streams = [StageResult.read(entry).streams for entry in event.results]
    return JobLog(event.job_id, event.execution_id, event.stdout, event.stderr, streams if any(streams) else ())


def _is_large(entry: JobLog) -> bool:
    return len(entry.stdout) + len(entry.stderr) > MAX_WITH_OUTCOME


def _is_apart(event: JobFinished, moved: Mapping[str, Moved]) -> bool:
    """Return whether the log of an execution is not stored with the outcome of its job, which exists."""
    job = moved[event.job_id].after if event.job_id in moved else None
    if job is None:
        return False
    has_ended = job.is_terminal and (job.generation, job.execution_id) == (event.generation, event.execution_id)
    return not (
        has_ended and any((a.execution_id, a.outcome) == (event.execution_id, event.outcome) for a in job.attempts)
    )


def _is_new(event: JobStarted | JobFinished, moved: Mapping[str, Moved]) -> bool:
    job = moved.get(event.job_id)
    return job is not None and job.after.knows(event.execution_id) and not job.before.knows(event.execution_id)


def _facts(events: Sequence[JobEvent], moved: dict[str, Moved]) -> list[Fact]:
    """Return the messages to publish. A final outcome is published again each time that a grader reports one."""
    unknown = {event.job_id for event in events} - moved.keys()
    if unknown:
        log.warning("events of unknown jobs", jobs=sorted(unknown))
    reported = {event.job_id for event in events if isinstance(event, JobFinished)}
    facts: list[Fact] = []
    for job_id, job in moved.items():
        if job.after.is_terminal and job_id in reported:
            facts.append(settled(job.after))
        else:
            facts += following(job)
    facts += [
        unwanted(moved[event.job_id].after, event.grader_id, event.generation)
        for event in events
        if isinstance(event, JobStarted) and _is_unwanted(event, moved)
    ]
    return together(facts)


def _is_unwanted(event: JobStarted, moved: dict[str, Moved]) -> bool:
    job = moved.get(event.job_id)
    return job is not None and _is_outdated(job.after, event.generation, event.execution_id)


def _is_outdated(job: Job, generation: int, execution_id: str) -> bool:
    """Return whether an execution's outcome no longer counts."""
    return job.generation != generation or (job.is_terminal and job.execution_id != execution_id)

"""Grading jobs: states, attempts, outcomes, and the only legal moves between them.

This module is pure. A move takes the stored job and returns the job to store, or the same object if the move is late,
repeated or not allowed. So any event may arrive twice or out of order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from broadway.domain.handed_in import HandedIn
from broadway.domain.marks import Marks
from broadway.domain.trace import log_ids


class Phase(StrEnum):
    """The part of a run that a job belongs to."""

    PRE_PROCESSING = "pre-processing"
    STUDENTS = "students"
    POST_PROCESSING = "post-processing"


class JobClass(StrEnum):
    """The audience of a job: one student who waits for it, or a whole roster."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class JobState(StrEnum):
    """The place of a job: in its course's backlog, on its way to a grader, in a grader, or done."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    FINISHED = "finished"


class Outcome(StrEnum):
    """The outcome of a job. There are no other values; only INFRASTRUCTURE_ERROR is ever retried."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"
    INFRASTRUCTURE_ERROR = "infrastructure_error"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"

    @property
    def is_order(self) -> bool:
        """True for the outcomes that only the control plane gives a job."""
        return self in (Outcome.CANCELLED, Outcome.SUPERSEDED)


class FaultPhase(StrEnum):
    """The step in which the infrastructure failed."""

    PULL = "pull"
    CREATE = "create"
    START = "start"
    WAIT = "wait"
    COLLECT = "collect"
    REPORT = "report"


MAX_DOUBLINGS = 10  # of the backoff
_START = ("not_before", "dispatched_at", "started_at", "finished_at", "lease_expires_at", "execution_id", "grader_id")
_RERUN: dict[str, Any] = dict.fromkeys((*_START, "outcome", "fault_phase", "success", "results"))  # cleared by a rerun


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limit of a job's starts in one generation, and the backoff between them."""

    max_attempts: int = 3
    backoff: timedelta = timedelta(seconds=1)

    def not_before(self, attempts: int, now: datetime) -> datetime:
        """Return the earliest time of the next start after ``attempts`` starts; the wait doubles up to ten times."""
        return now + self.backoff * (1 << min(max(0, attempts - 1), MAX_DOUBLINGS))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a job by a grader. A released attempt was returned unfinished and does not count.

    ``generation`` is the job's generation at the start. ``deadline`` is set for graders behind the gateway: their
    lease is not renewed beyond it. ``redelivered``: its grader got the job's message after another grader, which may
    have started the job and died before it reported that. ``marks`` are None before its end, and if they are unknown.
    """

    execution_id: str
    grader_id: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    reason: str = ""
    released: bool = False
    deadline: datetime | None = None
    generation: int = 1
    redelivered: bool = False
    marks: Marks | None = None


def with_attempts(attempts: Sequence[Attempt], changed: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """Return attempts with some of them replaced by those of the same executions, and with new ones at the end."""
    by_execution = {a.execution_id: a for a in attempts} | {a.execution_id: a for a in changed}
    return tuple(by_execution.values())


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a job by a grader, from start to outcome, by the grader's report."""

    execution_id: str
    grader_id: str
    started_at: datetime
    finished_at: datetime
    outcome: Outcome
    reason: str = ""
    fault_phase: FaultPhase | None = None
    retryable: bool = False
    results: Sequence[dict[str, Any]] = ()
    redelivered: bool = False
    marks: Marks | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One stored grading job, without its stages. ``needs`` are the abilities that its grader must have.

    A rerun and a cancellation raise ``generation``, so earlier reports are outdated. ``round`` is the run's last round.
    """

    id: str
    run_id: str
    course: str
    assignment: str
    phase: Phase
    index: int
    job_class: JobClass
    pool: str
    queued_at: datetime
    generation: int = 1
    round: int = 1
    revision: int = 0
    state: JobState = JobState.QUEUED
    not_before: datetime | None = None
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    lease_expires_at: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    execution_id: str | None = None
    grader_id: str | None = None
    outcome: Outcome | None = None
    reason: str = ""
    fault_phase: FaultPhase | None = None
    success: bool | None = None
    results: Sequence[dict[str, Any]] | None = field(default=None, compare=False)
    traceparent: str | None = None
    needs: tuple[str, ...] = ()
    handed_in: HandedIn | None = None

    @property
    def context(self) -> dict[str, str]:
        """The ids of the job in log lines."""
        return log_ids(self.traceparent, course=self.course, run=self.run_id, job=self.id)

    @property
    def is_terminal(self) -> bool:
        """True if the job cannot change any more within its generation."""
        return self.state is JobState.FINISHED

    @property
    def starts(self) -> int:
        """Starts that count against the limit."""
        return sum(not a.released for a in self.attempts if a.generation == self.generation)

    @property
    def charged_starts(self) -> int:
        """Starts that are compared with the limit: with the unreported one before a first attempt that was redelivered.

        Only the first start of a generation may end unreported, since graders report all others at once.
        """
        first = next((a for a in self.attempts if a.generation == self.generation), None)
        return self.starts + (first is not None and first.redelivered)

    @property
    def seconds(self) -> float:
        """The time for which the last ended attempt held its slot."""
        ended = [(a.ended_at - a.started_at).total_seconds() for a in self.attempts if a.ended_at]
        return ended[-1] if ended else 0.0

    @property
    def avoid(self) -> list[str]:
        """Ids of graders on which this generation of the job ended in an infrastructure error."""
        own = [a for a in self.attempts if a.generation == self.generation]
        return [a.grader_id for a in own if a.outcome is Outcome.INFRASTRUCTURE_ERROR]

    def decline(self, generation: int, until: datetime) -> "Job":
        """Requeue a job that a grader cannot run; it is not handed over again before ``until``."""
        is_untaken = self.generation == generation and self.state in (JobState.QUEUED, JobState.DISPATCHED)
        return replace(self, state=JobState.QUEUED, dispatched_at=None, not_before=until) if is_untaken else self

    def redispatch(self, now: datetime) -> "Job":
        """Dispatch a job of an earlier version again, since its first message seems to be lost."""
        return replace(self, dispatched_at=now) if self.state is JobState.DISPATCHED else self

    def start(
        self, attempt: Attempt, *, lease: timedelta, policy: RetryPolicy, now: datetime, displaces: bool = False
    ) -> "Job":
        """Record that a grader has started the job. A start beyond the limit ends it as an infrastructure error.

        The lease begins at ``now``, by the control plane's clock: the grader's clock, and so the attempt, may be wrong.
        While another grader runs the job, only a start that ``displaces`` counts: that grader has lost the job.
        """
        is_contested = self.is_contested_by(attempt.grader_id) and not displaces
        if self.is_terminal or is_contested or self.knows(attempt.execution_id):
            return self
        if self.charged_starts >= policy.max_attempts:
            return self._abandon(now)
        return replace(
            self,
            state=JobState.RUNNING,
            started_at=self.started_at or attempt.started_at,
            not_before=None,
            attempts=(*self.attempts, replace(attempt, generation=self.generation)),
            execution_id=attempt.execution_id,
            grader_id=attempt.grader_id,
            lease_expires_at=max(now + lease, self.lease_expires_at or now),
        )

    def finish(self, execution: Execution, *, policy: RetryPolicy, now: datetime, displaces: bool = False) -> "Job":
        """Record an execution: the first valid outcome ends the job, an infrastructure error may requeue it.

        The outcome of an execution that its grader gave back is not valid, nor is that of another grader's execution.
        An execution whose start was not reported is valid while no other grader runs the job, or if it ``displaces``
        that grader, which has lost the job. The backoff begins at ``now``. A grader's cancellation changes nothing.
        """
        if self.is_terminal or execution.outcome.is_order or not self._admits(execution, displaces=displaces):
            return self
        job = replace(self, attempts=self._attempts_with(execution), started_at=self.started_at or execution.started_at)
        if execution.outcome is not Outcome.INFRASTRUCTURE_ERROR:
            return job._end(execution, now)  # noqa: SLF001 - the same class
        if not self._is_current(execution.execution_id):
            return self if job == self else job
        if execution.retryable and job.charged_starts < policy.max_attempts:
            return job._requeue(policy, now)  # noqa: SLF001
        return job._end(execution, now)  # noqa: SLF001

    def lose(self, now: datetime, *, policy: RetryPolicy, execution_id: str | None = None) -> "Job":
        """Requeue a job whose grader has gone, or end it if it has no starts left.

        With ``execution_id``, only if that execution is the running one.
        """
        if self.state is not JobState.RUNNING or execution_id not in (None, self.execution_id):
            return self
        return self._abandon(now) if self.charged_starts >= policy.max_attempts else self._requeue(policy, now)

    def release(self, execution_id: str, now: datetime, *, grader_id: str | None = None) -> "Job":
        """Record that a grader, ``grader_id`` if given, returned its job: its start does not count."""
        mine = [a for a in self.attempts if a.execution_id == execution_id and grader_id in (None, a.grader_id)]
        if self.is_terminal or not any(a.ended_at is None for a in mine):
            return self
        attempts = tuple(
            replace(a, released=True, ended_at=now) if a.execution_id == execution_id else a for a in self.attempts
        )
        job = replace(self, attempts=attempts)
        if self.state is not JobState.RUNNING or self.execution_id != execution_id:
            return job
        return replace(job, state=JobState.DISPATCHED, dispatched_at=now, lease_expires_at=None)

    def put_back(self, execution_id: str, now: datetime) -> "Job":
        """Requeue a job whose execution ended through no fault of its grader: the start does not count."""
        job = self.release(execution_id, now)
        if job is self or job.state is not JobState.DISPATCHED or self.state is JobState.DISPATCHED:
            return job
        return replace(job, state=JobState.QUEUED, dispatched_at=None)

    def give_up(self, reason: str, fault_phase: FaultPhase, now: datetime, *, result: str | None = None) -> "Job":
        """End a job as an infrastructure error, with a reason and with ``result`` for the clients of v1."""
        if self.is_terminal:
            return self
        execution = Execution(
            execution_id=self.execution_id or "",
            grader_id=self.grader_id or "",
            started_at=self.started_at or now,
            finished_at=now,
            outcome=Outcome.INFRASTRUCTURE_ERROR,
            reason=reason,
            fault_phase=fault_phase,
            results=[{"result": result or reason}],
        )
        return self._end(execution, now)

    def cancel(self, reason: str, now: datetime, outcome: Outcome = Outcome.CANCELLED) -> "Job":
        """End the job, whose outcome is no longer needed: later reports about it are outdated."""
        if self.is_terminal:
            return self
        attempts = tuple(
            replace(a, ended_at=now, outcome=outcome, reason=reason) if a.ended_at is None else a for a in self.attempts
        )
        return replace(
            self,
            generation=self.generation + 1,
            state=JobState.FINISHED,
            not_before=None,
            lease_expires_at=None,
            finished_at=now,
            attempts=attempts,
            outcome=outcome,
            reason=reason,
            success=False,
            results=[{"result": reason}],
        )

    def rerun(self, generation: int, round_: int, now: datetime) -> "Job":
        """Queue the job again in a round of the run, unless it is no longer in ``generation``."""
        if self.generation != generation:
            return self
        ended = tuple(replace(a, ended_at=now) if a.ended_at is None else a for a in self.attempts)
        return replace(
            self,
            queued_at=now,
            generation=generation + 1,
            round=round_,
            state=JobState.QUEUED,
            attempts=ended,
            reason="",
            **_RERUN,
        )

    def execution_of(self, grader_id: str) -> Attempt | None:
        """Return a grader's newest attempt in this generation that has not ended, or None."""
        open_one = (grader_id, self.generation, None)
        return next((a for a in reversed(self.attempts) if (a.grader_id, a.generation, a.ended_at) == open_one), None)

    def is_contested_by(self, grader_id: str) -> bool:
        """Return whether a grader that starts the job now would take it from another grader, which runs it."""
        return self.state is JobState.RUNNING and self.grader_id != grader_id

    def knows(self, execution_id: str) -> bool:
        """Return whether the start or the outcome of an execution is recorded."""
        return self._attempt(execution_id) is not None

    def _attempt(self, execution_id: str) -> Attempt | None:
        return next((a for a in self.attempts if a.execution_id == execution_id), None)

    def _admits(self, execution: Execution, *, displaces: bool) -> bool:
        """Return whether an execution may report an outcome: its grader has not given it back, and no other has it."""
        known = self._attempt(execution.execution_id)
        if known is not None:
            return known.grader_id == execution.grader_id and not known.released
        return displaces or not self.is_contested_by(execution.grader_id)

    def _is_current(self, execution_id: str) -> bool:
        """Return whether the execution is the running one, or may be one whose start has not been reported."""
        if self.knows(execution_id):
            return self.state is JobState.RUNNING and self.execution_id == execution_id
        return self.state in (JobState.QUEUED, JobState.DISPATCHED)

    def _attempts_with(self, execution: Execution) -> tuple[Attempt, ...]:
        """Return all attempts, with the execution's one closed, or added if its start was never reported."""
        ids = execution.execution_id, execution.grader_id
        unreported = Attempt(*ids, execution.started_at, generation=self.generation, redelivered=execution.redelivered)
        attempt = self._attempt(execution.execution_id) or unreported
        attempt = replace(attempt, started_at=execution.started_at, ended_at=execution.finished_at)
        attempt = replace(attempt, outcome=execution.outcome, reason=execution.reason, marks=execution.marks)
        return with_attempts(self.attempts, [attempt])

    def _requeue(self, policy: RetryPolicy, now: datetime) -> "Job":
        not_before = policy.not_before(self.starts, now)
        return replace(self, state=JobState.QUEUED, not_before=not_before, lease_expires_at=None)

    def _abandon(self, now: datetime) -> "Job":
        reason = f"given up after {self.charged_starts} attempts: each was lost with its grader"
        return self.give_up(reason, FaultPhase.WAIT, now, result="worker died while executing job")

    def _end(self, execution: Execution, now: datetime) -> "Job":
        return replace(
            self,
            state=JobState.FINISHED,
            not_before=None,
            lease_expires_at=None,
            started_at=self.started_at or execution.started_at,
            finished_at=now,
            execution_id=execution.execution_id or self.execution_id,
            grader_id=execution.grader_id or self.grader_id,
            outcome=execution.outcome,
            reason=execution.reason,
            fault_phase=execution.fault_phase,
            success=execution.outcome is Outcome.SUCCEEDED,
            results=execution.results,
        )

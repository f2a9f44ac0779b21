"""The bodies of all messages that cross the broker.

An operator reads type and subject among a message's headers in the management UI, and a clean JSON body below.
"""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict

from broadway.domain.grader import GraderMode, StandingOrder
from broadway.domain.job import Execution, FaultPhase, Job, JobClass, Outcome, Phase
from broadway.domain.run import RunState
from broadway.domain.trace import log_ids


class Event(BaseModel):
    """The body of a message. Unknown keys are ignored, so that newer senders may add some.

    ``traceparent`` travels in the headers, not in the body.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]

    traceparent: str | None = None

    @property
    def context(self) -> dict[str, Any]:
        """What log lines say of it while it is handled."""
        return {}

    @property
    def subject(self) -> str:
        """What the event is about, readable: ``<course>/<run>/<job>`` for jobs."""
        return ""

    @property
    def identity(self) -> str:
        """The message id. Events that mean the same fact have the same one, wherever and whenever they are sent."""
        return str(uuid4())


class JobEvent(Event):
    """About one job in one generation."""

    course: str
    run_id: str
    job_id: str
    generation: int

    @property
    def context(self) -> dict[str, Any]:
        return log_ids(self.traceparent, course=self.course, run=self.run_id, job=self.job_id)

    @property
    def subject(self) -> str:
        return f"{self.course}/{self.run_id}/{self.job_id}"

    @property
    def ids(self) -> dict[str, Any]:
        """The fields that say which job this is about, for another event about it."""
        return self.model_dump(include=set(JobEvent.model_fields))

    @property
    def key(self) -> str:
        """The job in its generation."""
        return f"{self.job_id}:{self.generation}"

    @property
    def identity(self) -> str:
        return f"{self.key}:{self.type}"


class JobQueued(JobEvent):
    """A job waits in its course's backlog. Holds ids only: the truth is in the database."""

    type: ClassVar[str] = "job.queued.v1"

    job_class: JobClass

    @property
    def identity(self) -> str:
        return self.key


class JobDispatched(JobEvent):
    """A job on its way to a grader, with everything that is needed to run it.

    ``avoid`` names graders to prefer not; ``ticket`` has to come with all that is told of an execution, see ``ticket``.
    """

    type: ClassVar[str] = "job.dispatched.v1"

    assignment: str
    phase: Phase
    attempt: int
    stages: list[dict[str, Any]]
    avoid: list[str] = []
    deferrals: int = 0
    ticket: str = ""

    @property
    def ids(self) -> dict[str, Any]:
        return {**super().ids, "ticket": self.ticket}

    @property
    def context(self) -> dict[str, Any]:
        return {**super().context, "attempt": self.attempt}

    @property
    def identity(self) -> str:
        """Of a start: what comes again with the same identity is the same start."""
        return f"{self.key}:{self.attempt}:{self.deferrals}"


class ExecutionEvent(JobEvent):
    """About one execution of a job by one grader."""

    execution_id: str
    grader_id: str
    ticket: str = ""

    @property
    def context(self) -> dict[str, Any]:
        return {**super().context, "execution": self.execution_id, "grader": self.grader_id}

    @property
    def identity(self) -> str:
        return f"{self.execution_id}:{self.type}"


class JobStarted(ExecutionEvent):
    """A grader has started a job. ``deadline``: see ``Attempt``."""

    type: ClassVar[str] = "job.started.v1"

    started_at: datetime
    deadline: datetime | None = None


class JobReleased(ExecutionEvent):
    """A draining grader gave a job back unfinished."""

    type: ClassVar[str] = "job.released.v1"

    released_at: datetime


class JobFinished(ExecutionEvent):
    """An execution is over: its outcome, each stage's result as the original shapes it, and bounded logs."""

    type: ClassVar[str] = "job.finished.v1"

    attempt: int = 1
    started_at: datetime
    finished_at: datetime
    outcome: Outcome
    reason: str = ""
    fault_phase: FaultPhase | None = None
    retryable: bool = False
    results: list[dict[str, Any]] = []
    stdout: str = ""
    stderr: str = ""

    @property
    def context(self) -> dict[str, Any]:
        return {**super().context, "attempt": self.attempt}

    def without_results(self, why: str) -> "JobFinished":
        """The same outcome, with a reason instead of the results that cannot be kept."""
        lost = f"the results cannot be stored: {why}"
        reason = f"{self.reason}; {lost}" if self.reason else lost
        return self.model_copy(update={"reason": reason, "results": [{"result": lost}]})

    def without_logs(self) -> "JobFinished":
        """The same outcome, with no word of what the stages wrote."""
        return self.model_copy(update={"stdout": "", "stderr": ""})

    @property
    def execution(self) -> Execution:
        """The same without logs, as the domain takes it."""
        return Execution(
            execution_id=self.execution_id,
            grader_id=self.grader_id,
            started_at=self.started_at,
            finished_at=self.finished_at,
            outcome=self.outcome,
            reason=self.reason,
            fault_phase=self.fault_phase,
            retryable=self.retryable,
            results=self.results,
        )


class JobRequeued(JobEvent):
    """An attempt came to nothing through no fault of the student; the job may start again from ``not_before`` on."""

    type: ClassVar[str] = "job.requeued.v1"

    not_before: datetime
    reason: str = ""

    @property
    def identity(self) -> str:
        return f"{self.key}:{self.type}:{self.not_before.timestamp()}"


class JobSettled(JobEvent):
    """A job's outcome is stored and final for its generation. ``seconds``: how long its last attempt held a slot."""

    type: ClassVar[str] = "job.settled.v1"

    phase: Phase
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0


class RunAdvanced(Event):
    """A run has entered a state."""

    type: ClassVar[str] = "run.advanced.v1"

    course: str
    assignment: str
    run_id: str
    state: RunState
    round: int = 1

    @property
    def context(self) -> dict[str, Any]:
        return log_ids(self.traceparent, course=self.course, run=self.run_id)

    @property
    def subject(self) -> str:
        return f"{self.course}/{self.run_id}"

    @property
    def identity(self) -> str:
        return f"{self.run_id}:{self.round}:{self.state.slug}"


class RunningJob(BaseModel):
    """A job that a grader is running now."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    generation: int
    execution_id: str


class GraderHeartbeat(Event):
    """A grader lives: its slots, and what runs in them. ``leaving`` is its last one.

    ``paused`` says why it takes no jobs; it has no slots then. ``draining``: because an operator wants it to finish.
    ``order`` is the revision of the last order that it obeys.
    ``runtime`` starts its containers; empty when it does not say.
    ``gateway`` names the API process that speaks for it, which has stored all this already.
    """

    type: ClassVar[str] = "grader.heartbeat.v1"

    grader_id: str
    hostname: str
    pool: str
    slots: int
    running: list[RunningJob] = []
    leaving: bool = False
    paused: str = ""
    draining: bool = False
    order: int = 0
    runtime: str = ""
    gateway: str | None = None
    sent_at: datetime

    @property
    def context(self) -> dict[str, Any]:
        return {"grader": self.grader_id}

    @property
    def subject(self) -> str:
        return self.grader_id


class GraderOrder(Event):
    """A command to a grader: all that its operator wants of it. The one with the highest revision holds.

    ``slots`` is None when the grader's own setting holds.
    """

    type: ClassVar[str] = "grader.order.v1"

    grader_id: str
    revision: int
    mode: GraderMode = GraderMode.ONLINE
    slots: int | None = None
    reason: str = ""

    @classmethod
    def of(cls, grader_id: str, order: StandingOrder) -> Self:
        """The command that tells a grader its standing order."""
        return cls(
            grader_id=grader_id, revision=order.revision, mode=order.mode, slots=order.slots, reason=order.reason
        )

    @property
    def subject(self) -> str:
        return self.grader_id


class CancelJob(JobEvent):
    """A command to graders: stop running this job, its outcome is not wanted any more."""

    type: ClassVar[str] = "job.cancel.v1"

    reason: str


class DeadLetter(Event):
    """A message that no consumer could handle, as far as it can be read. ``queue`` is where it died."""

    type: ClassVar[str] = "dead.letter.v1"

    message_id: str
    message_type: str
    subject_text: str
    queue: str
    reason: str
    body: bytes

    @property
    def context(self) -> dict[str, Any]:
        ids = dict(zip(("course", "run", "job"), self.subject_text.split("/"), strict=False))
        return log_ids(self.traceparent, **ids) if len(ids) > 1 else {}

    @property
    def subject(self) -> str:
        return self.subject_text


def ids_of(job: Job) -> dict[str, Any]:
    """The fields that say which job an event is about."""
    return {
        "course": job.course,
        "run_id": job.run_id,
        "job_id": job.id,
        "generation": job.generation,
        "traceparent": job.traceparent,
    }

"""The bodies of all messages at the broker.

In the management UI, an operator finds a message's type and subject in its headers, and plain JSON as its body.
"""

import hashlib
import operator
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Self
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from broadway.domain.abilities import MAX_ABILITIES
from broadway.domain.bounds import Count, Documents, Id, Log, Reason, Seconds, Time, cut
from broadway.domain.grader import MAX_SLOTS, GraderMode, StandingOrder
from broadway.domain.job import Execution, FaultPhase, Job, JobClass, Outcome, Phase
from broadway.domain.run import RunState
from broadway.domain.trace import log_ids

MAX_AVOIDED = 1000  # graders that should not get a job
MAX_KEPT = 8 * 1024 * 1024  # bytes of a dead letter's body

LongId = Annotated[str, StringConstraints(max_length=10_000)]  # of an assignment of the original, which had no limit
Label = Annotated[str, cut(1000)]  # of a dead letter, as its sender chose it


class Event(BaseModel):
    """The body of a message. Unknown keys are ignored, so that newer senders may add keys.

    ``traceparent`` travels in the headers, not in the body.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    type: ClassVar[str]
    names_fact: ClassVar[bool] = False  # True if ``identity`` follows from the event's fields

    traceparent: Id | None = None

    @property
    def context(self) -> dict[str, Any]:
        """The fields of log lines while the event is handled."""
        return {}

    def as_redelivered(self) -> Self:
        """Return the event of a message that the broker has delivered before."""
        return self

    @property
    def subject(self) -> str:
        """The subject in readable form: ``<course>/<run>/<job>`` for jobs."""
        return ""

    @property
    def identity(self) -> str:
        """The message id. All events about the same fact have the same id, from any sender and at any time."""
        return str(uuid4())


class JobEvent(Event):
    """An event about one job in one generation."""

    names_fact: ClassVar[bool] = True

    course: Id
    run_id: Id
    job_id: Id
    generation: Count

    @property
    def context(self) -> dict[str, Any]:
        return log_ids(self.traceparent, course=self.course, run=self.run_id, job=self.job_id)

    @property
    def subject(self) -> str:
        return f"{self.course}/{self.run_id}/{self.job_id}"

    @property
    def ids(self) -> dict[str, Any]:
        """The fields that identify the job, for another event about it."""
        return self.model_dump(include=set(JobEvent.model_fields))

    @property
    def key(self) -> str:
        """The job in its generation."""
        return f"{self.job_id}:{self.generation}"

    @property
    def identity(self) -> str:
        return f"{self.key}:{self.type}"


class JobQueued(JobEvent):
    """A job waits in its course's backlog. The event has ids only, since the database is authoritative."""

    type: ClassVar[str] = "job.queued.v1"

    job_class: JobClass

    @property
    def identity(self) -> str:
        return self.key


class JobDispatched(JobEvent):
    """A job on its way to a grader, with all data for running it.

    ``avoid`` names graders that should not get the job if others can. ``ticket`` must be repeated in every event about
    the job's execution; see the module ``ticket``. ``redelivered`` is no part of the body: another grader may have had
    the message.
    """

    type: ClassVar[str] = "job.dispatched.v1"

    assignment: LongId
    phase: Phase
    attempt: Count
    stages: Documents
    avoid: Annotated[list[Id], Field(max_length=MAX_AVOIDED)] = []
    deferrals: Count = 0
    ticket: Id = ""
    redelivered: bool = Field(default=False, exclude=True)

    def as_redelivered(self) -> Self:
        return self.model_copy(update={"redelivered": True})

    @property
    def ids(self) -> dict[str, Any]:
        return {**super().ids, "ticket": self.ticket}

    @property
    def context(self) -> dict[str, Any]:
        return {**super().context, "attempt": self.attempt}

    @property
    def identity(self) -> str:
        """The id of one start: a message with the same id is a redelivery of that start."""
        return f"{self.key}:{self.attempt}:{self.deferrals}"


class ExecutionEvent(JobEvent):
    """An event about one execution of a job by one grader. ``ticket`` and ``proof``: see the module ``ticket``."""

    execution_id: Id
    grader_id: Id
    ticket: Id = ""
    proof: Id = Field(default="", exclude_if=operator.not_)

    @property
    def context(self) -> dict[str, Any]:
        return {**super().context, "execution": self.execution_id, "grader": self.grader_id}

    @property
    def identity(self) -> str:
        return f"{self.execution_id}:{self.type}"


class JobStarted(ExecutionEvent):
    """A grader has started a job. ``deadline`` and ``redelivered``: see ``Attempt``."""

    type: ClassVar[str] = "job.started.v1"

    started_at: Time
    deadline: Time | None = None
    redelivered: bool = Field(default=False, exclude_if=operator.not_)


class JobReleased(ExecutionEvent):
    """A draining grader returned a job unfinished."""

    type: ClassVar[str] = "job.released.v1"

    released_at: Time


class JobFinished(ExecutionEvent):
    """An execution is over: its outcome, each stage's result as the original shapes it, and bounded logs."""

    type: ClassVar[str] = "job.finished.v1"

    attempt: Count = 1
    started_at: Time
    finished_at: Time
    outcome: Outcome
    reason: Reason = ""
    fault_phase: FaultPhase | None = None
    retryable: bool = False
    results: Documents = []
    stdout: Log = ""
    stderr: Log = ""
    redelivered: bool = Field(default=False, exclude_if=operator.not_)

    @property
    def context(self) -> dict[str, Any]:
        return {**super().context, "attempt": self.attempt}

    def without_results(self, why: str) -> "JobFinished":
        """Return a copy that has a reason instead of the results, which cannot be stored."""
        loss = f"the results cannot be stored: {why}"
        reason = f"{self.reason}; {loss}" if self.reason else loss
        return self.model_copy(update={"reason": reason, "results": [{"result": loss}]})

    def without_logs(self) -> "JobFinished":
        """Return a copy without the stages' output."""
        return self.model_copy(update={"stdout": "", "stderr": ""})

    @property
    def execution(self) -> Execution:
        """The execution without logs and marks, as a domain value."""
        return Execution(**{each.name: getattr(self, each.name) for each in fields(Execution) if each.name != "marks"})


class JobRequeued(JobEvent):
    """An attempt failed through no fault of the student; the job may start again at ``not_before``."""

    type: ClassVar[str] = "job.requeued.v1"

    not_before: Time
    reason: Reason = ""

    @property
    def identity(self) -> str:
        return f"{self.key}:{self.type}:{self.not_before.timestamp()}"


class JobSettled(JobEvent):
    """A job's outcome is stored and final for its generation. ``seconds``: the time of its last attempt in a slot."""

    type: ClassVar[str] = "job.settled.v1"

    phase: Phase
    outcome: Outcome
    reason: Reason = ""
    seconds: Seconds = 0.0


class RunAdvanced(Event):
    """A run has entered a state."""

    type: ClassVar[str] = "run.advanced.v1"
    names_fact: ClassVar[bool] = True

    course: Id
    assignment: LongId
    run_id: Id
    state: RunState
    round: Count = 1

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

    job_id: Id
    generation: Count
    execution_id: Id


class GraderHeartbeat(Event):
    """A grader is alive, with its slots and the jobs in them. The heartbeat with ``leaving`` is its last one.

    ``paused`` is the reason for taking no jobs; the grader has no slots then. ``draining``: it finishes its jobs and
    takes no others. ``order`` is the revision of the order that it follows. ``runtime`` is the runtime of its
    containers, empty if it does not report one. ``abilities`` are the features of stages that earlier versions do not
    have. ``gateway`` is the API process that publishes for the grader, and has
    stored all this already.
    """

    type: ClassVar[str] = "grader.heartbeat.v1"

    grader_id: Id
    hostname: Id
    pool: Id
    slots: Annotated[int, Field(ge=0, le=MAX_SLOTS)]
    running: Annotated[list[RunningJob], Field(max_length=MAX_SLOTS)] = []
    leaving: bool = False
    paused: Reason = ""
    draining: bool = False
    order: Count = 0
    runtime: Id = ""
    abilities: Annotated[list[Id], Field(max_length=MAX_ABILITIES)] = []
    gateway: Id | None = None
    sent_at: Time

    @property
    def context(self) -> dict[str, Any]:
        return {"grader": self.grader_id}

    @property
    def subject(self) -> str:
        return self.grader_id


class GraderOrder(Event):
    """A command to a grader: its operator's standing order. The order with the highest revision applies.

    ``slots`` is None while the grader's own setting applies.
    """

    type: ClassVar[str] = "grader.order.v1"

    grader_id: Id
    revision: Count
    mode: GraderMode = GraderMode.ONLINE
    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS)] | None = None
    reason: Reason = ""

    @classmethod
    def of(cls, grader_id: str, order: StandingOrder) -> Self:
        """Return the command for a grader's standing order."""
        return cls(
            grader_id=grader_id, revision=order.revision, mode=order.mode, slots=order.slots, reason=order.reason
        )

    @property
    def subject(self) -> str:
        return self.grader_id


class CancelJob(JobEvent):
    """A command to graders: stop a job, whose outcome is no longer needed."""

    type: ClassVar[str] = "job.cancel.v1"

    reason: Reason


class DeadLetter(Event):
    """The readable parts of a message that no consumer could handle.

    Its labels follow from the event in its body, since any sender may choose its headers. If the body cannot be read,
    the headers of a service count; unreadable messages of graders are dropped where they arrive.

    Args:
        about: The event; None if the body cannot be read.
        message_type: The type that the headers name, even if the body does not fit it.
        named_id: The message's id by its headers; empty unless they count.
        named_subject: The message's subject by its headers; empty unless they count.
        queue: The queue in which the message died.
        reason: The reason, from the service or the broker that moved the message.
        sender: The broker's user that sent the message, or its copy, to the dead letters; empty if it is unknown.
        is_proven: True if a service sent it. The consumer of its queue had then checked the original's sender.
        body: The message's body.
    """

    type: ClassVar[str] = "dead.letter.v1"

    about: Event | None
    message_type: Label
    named_id: Label
    named_subject: Label
    queue: Label
    reason: Reason
    sender: Label
    is_proven: bool
    body: Annotated[bytes, AfterValidator(lambda body: body[:MAX_KEPT])]

    @property
    def message_id(self) -> str:
        """The id under which repetitions of the message count as one."""
        if self.about and self.about.names_fact:
            return self.about.identity
        return self.named_id if self.is_proven else hashlib.sha256(self.body).hexdigest()

    @property
    def context(self) -> dict[str, Any]:
        if self.about:
            return self.about.context
        ids = dict(zip(("course", "run", "job"), self.named_subject.split("/"), strict=False))
        return log_ids(self.traceparent, **ids) if len(ids) > 1 else {}

    @property
    def subject(self) -> str:
        return self.about.subject if self.about else self.named_subject


def ids_of(job: Job) -> dict[str, Any]:
    """Return the fields that identify a job in an event."""
    return {
        "course": job.course,
        "run_id": job.run_id,
        "job_id": job.id,
        "generation": job.generation,
        "traceparent": job.traceparent,
    }

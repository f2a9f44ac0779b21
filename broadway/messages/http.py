"""The messages between graders and the API over HTTP and WebSockets: the original's protocols, and our additions.

The API takes them strictly. The original's graders send no ``verdict`` and no ``running``. The API knows a grader of
ours by its ``User-Agent``; a grader knows an API of ours by ``INTERVAL_HEADER`` or by its answer to joining.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broadway.domain.job import FaultPhase, Outcome

OUR_AGENT = "broadway-grader/"  # the beginning of a ``User-Agent``, before the version
INTERVAL_HEADER = "broadway-heartbeat-interval"  # of the answer to a WebSocket's handshake, in seconds
NO_JOB = 498  # the status of a poll's answer
MAX_REASON = 500  # characters of a verdict's reason

_GRADERS_OUTCOMES = (
    Outcome.SUCCEEDED,
    Outcome.FAILED,
    Outcome.TIMED_OUT,
    Outcome.OUT_OF_MEMORY,
    Outcome.OUTPUT_LIMIT,
    Outcome.INFRASTRUCTURE_ERROR,
)


class JobMessage(BaseModel):
    """A job, as both protocols hand it out. Unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    grading_job_id: str
    stages: list[dict[str, Any]]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Registration(_Message):
    """The body of ``POST /worker/...``."""

    hostname: str


class SocketRegistration(Registration):
    """The arguments of ``register``. ``running`` is our own: jobs that the grader still runs since it was cut off."""

    running: list[str] = []


class Verdict(_Message):
    """What our own graders report beyond ``success``; the original's have no words for it."""

    outcome: Annotated[Outcome, Field(strict=False)]
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    fault_phase: Annotated[FaultPhase | None, Field(strict=False)] = None
    retryable: bool = False


class Logs(_Message):
    """The output of a job."""

    stdout: str = ""
    stderr: str = ""


class JobResult(_Message):
    """The body of ``POST /grading_job/...``, and the arguments of ``job_result``."""

    grading_job_id: str
    success: bool
    results: list[dict[str, Any]]
    logs: Logs
    verdict: Verdict | None = None

    @property
    def job_id(self) -> str:
        return self.grading_job_id

    @property
    def generation(self) -> int:
        """The protocols have no word for it."""
        return 1

    @property
    def attempt(self) -> int:
        """The protocols have no word for it."""
        return 1

    def body(self, *, extended: bool) -> dict[str, Any]:
        """The result as it is sent: with its verdict only to a server that has a place for it."""
        return self.model_dump(mode="json", exclude=set() if extended else {"verdict"})

    @model_validator(mode="after")
    def _consistent(self) -> "JobResult":
        if self.verdict is None:
            return self
        if self.verdict.outcome not in _GRADERS_OUTCOMES:
            raise ValueError(f"verdict.outcome: a grader cannot come to {self.verdict.outcome.value!r}")
        if (self.verdict.outcome is Outcome.SUCCEEDED) is not self.success:
            raise ValueError("verdict.outcome: contradicts success")
        return self


class SocketMessage(_Message):
    """The frame of all messages that a grader sends over a WebSocket."""

    type: Literal["register", "job_result"]
    args: dict[str, Any]

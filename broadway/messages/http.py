"""The messages between graders and the API over HTTP and WebSockets: the original's protocols, and our additions.

The API validates messages strictly. The original's graders send no ``verdict`` and no ``running``. The API recognizes
a grader of ours by its ``User-Agent``; a grader recognizes an API of ours by ``INTERVAL_HEADER`` or by its answer to
joining.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from broadway.domain.bounds import Documents, Id, Log, shallow
from broadway.domain.grader import MAX_SLOTS
from broadway.domain.job import FaultPhase, Outcome

OUR_AGENT = "broadway-grader/"  # the beginning of a ``User-Agent``; the version follows
INTERVAL_HEADER = "broadway-heartbeat-interval"  # seconds, in the answer to a WebSocket's handshake
IDENTITY_HEADER = "broadway-grader-secret"  # in a join, or a WebSocket's handshake: the grader's own secret
PROVES_HEADER = "broadway-grader-proves"  # in a join: the grader's reports have proofs; see the module ``ticket``
TICKET_HEADER = "broadway-ticket"  # in a grader's request about a job: its generation, a colon, and its ticket
NO_JOB = 498  # status of a poll's answer if there is no job
MAX_KEYS = 100  # of the arguments of a message
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
    """A job in the form of both protocols. Unknown keys are ignored. ``course``, our addition, may be absent."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    grading_job_id: Id
    stages: Documents
    course: Id = ""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Registration(_Message):
    """The body of ``POST /worker/...``."""

    hostname: Id


class SocketRegistration(Registration):
    """The arguments of ``register``. ``running``, our addition, has the jobs that still run after a lost connection."""

    running: Annotated[list[Id], Field(max_length=MAX_SLOTS)] = []


class Verdict(_Message):
    """The detailed outcome, which our graders report beside ``success`` and the original's cannot."""

    outcome: Annotated[Outcome, Field(strict=False)]
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    fault_phase: Annotated[FaultPhase | None, Field(strict=False)] = None
    retryable: bool = False


class Logs(_Message):
    """The output of a job."""

    stdout: Log = ""
    stderr: Log = ""


class JobResult(_Message):
    """The body of ``POST /grading_job/...``, and the arguments of ``job_result``."""

    grading_job_id: Id
    success: bool
    results: Documents
    logs: Logs
    verdict: Verdict | None = None

    @property
    def job_id(self) -> str:
        return self.grading_job_id

    @property
    def generation(self) -> int:
        """Always 1: the protocols have no generations."""
        return 1

    @property
    def attempt(self) -> int:
        """Always 1: the protocols do not count attempts."""
        return 1

    def body(self, *, extended: bool) -> dict[str, Any]:
        """Return the JSON body of the result, with the verdict only for an ``extended`` server."""
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
    """The envelope of all messages that a grader sends over a WebSocket."""

    type: Literal["register", "job_result"]
    args: Annotated[dict[str, Any], Field(max_length=MAX_KEYS), AfterValidator(shallow)]

"""What graders of the original's HTTP and WebSocket protocols say, and what their results come to."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broadway.domain.job import FaultPhase, Outcome

CRASHED = "the container crashed"  # all that the original's graders say of an engine that failed, in either case
MAX_REASON = 500  # characters

_GRADERS_OUTCOMES = (
    Outcome.SUCCEEDED,
    Outcome.FAILED,
    Outcome.TIMED_OUT,
    Outcome.OUT_OF_MEMORY,
    Outcome.OUTPUT_LIMIT,
    Outcome.INFRASTRUCTURE_ERROR,
)


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Registration(_Message):
    """W1's body."""

    hostname: str


class SocketRegistration(Registration):
    """The arguments of ``register``. ``running`` is our own: jobs that the grader still runs since it was cut off."""

    running: list[str] = []


class Verdict(_Message):
    """What our own graders know beyond ``success``; the original's have no words for it."""

    outcome: Annotated[Outcome, Field(strict=False)]
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    fault_phase: Annotated[FaultPhase | None, Field(strict=False)] = None
    retryable: bool = False


class Logs(_Message):
    """What a job wrote."""

    stdout: str = ""
    stderr: str = ""


class JobResult(_Message):
    """W3's body, and the arguments of ``job_result``."""

    grading_job_id: str
    success: bool
    results: list[dict[str, Any]]
    logs: Logs
    verdict: Verdict | None = None

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
    """The frame of everything that a grader says over a WebSocket."""

    type: Literal["register", "job_result"]
    args: dict[str, Any]


def judge(result: JobResult) -> Verdict:
    """A result's outcome, as far as it can be told; an engine that failed is never the student's failure."""
    if result.verdict is not None:
        return result.verdict
    if result.success:
        return Verdict(outcome=Outcome.SUCCEEDED)
    if result.results == [{"success": False}] and result.logs.stdout.casefold() == CRASHED:
        return Verdict(
            outcome=Outcome.INFRASTRUCTURE_ERROR,
            reason=result.logs.stderr[:MAX_REASON],
            fault_phase=FaultPhase.WAIT,
            retryable=True,
        )
    return _judge_stage(result.results)


def _judge_stage(results: list[dict[str, Any]]) -> Verdict:
    """By the entry of the stage that failed, which is the last one."""
    last = results[-1] if results else {}
    state = last.get("data")
    state = state if isinstance(state, dict) else {}
    where = f"stage {len(results)}"
    if last.get("killed") is True:
        return Verdict(outcome=Outcome.TIMED_OUT, reason=f"{where}: ran longer than its time limit")
    if state.get("OOMKilled") is True:
        return Verdict(outcome=Outcome.OUT_OF_MEMORY, reason=f"{where}: used more memory than its limit")
    if isinstance(state.get("ExitCode"), int):
        return Verdict(outcome=Outcome.FAILED, reason=f"{where}: exit code {state['ExitCode']}")
    return Verdict(outcome=Outcome.FAILED)

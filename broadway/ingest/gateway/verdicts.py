"""The outcome of a result from a grader that reports only success or failure."""

from typing import Any

from broadway.domain.job import FaultPhase, Outcome
from broadway.domain.result import StageResult
from broadway.messages.http import MAX_REASON, JobResult, Verdict

CRASHED = "the container crashed"  # all that the original's graders say of an engine that failed, in either case


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
    """By the result of the stage that failed, which is the last one."""
    last = StageResult.read(results[-1]) if results else StageResult()
    where = f"stage {len(results)}"
    if last.killed:
        return Verdict(outcome=Outcome.TIMED_OUT, reason=f"{where}: ran longer than its time limit")
    if last.out_of_memory:
        return Verdict(outcome=Outcome.OUT_OF_MEMORY, reason=f"{where}: used more memory than its limit")
    if last.exit_code is not None:
        return Verdict(outcome=Outcome.FAILED, reason=f"{where}: exit code {last.exit_code}")
    return Verdict(outcome=Outcome.FAILED)

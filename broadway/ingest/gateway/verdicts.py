"""The outcome of a result from a grader that reports only success or failure."""

import posixpath
import re
from typing import Any

from broadway.domain.job import FaultPhase, Outcome
from broadway.domain.result import StageResult
from broadway.messages.http import MAX_REASON, JobResult, Verdict

MAX_SHOWN = 200  # characters of a path
CRASHED = "the container crashed"  # the original's graders' only text for an engine fault; its case varies
# An engine's error, in the form of the original's graders, which may escape its quotes.
_NOT_EXECUTED = re.compile(
    r'exec: \\*"(?P<program>/[^"]{1,4096}?)\\*": .*?(?:no such file or directory|permission denied|is a directory'
    r"|not a directory|too many levels of symbolic links|file name too long|exec format error|text file busy)"
)


def judge(result: JobResult) -> Verdict:
    """Return a result's outcome, derived if the grader reported none; an engine fault never counts as a failure."""
    if result.verdict is not None:
        return result.verdict
    if result.success:
        return Verdict(outcome=Outcome.SUCCEEDED)
    if result.results == [{"success": False}] and result.logs.stdout.casefold() == CRASHED:
        if program := _program_of_student(result.logs.stderr):
            return Verdict(outcome=Outcome.FAILED, reason=f"{program} cannot be started: it is no executable file")
        return Verdict(
            outcome=Outcome.INFRASTRUCTURE_ERROR,
            reason=result.logs.stderr[:MAX_REASON],
            fault_phase=FaultPhase.WAIT,
            retryable=True,
        )
    return _judge_stage(result.results)


def _program_of_student(error: str) -> str | None:
    """Return the program below ``/job`` that an engine could not execute, by the engine's error; else None."""
    found = _NOT_EXECUTED.search(error)
    path = posixpath.normpath(found["program"]) if found else ""
    return path[:MAX_SHOWN] if path.startswith("/job/") and path.isprintable() else None


def _judge_stage(results: list[dict[str, Any]]) -> Verdict:
    """Derive the outcome from the stage that failed, which is the last one."""
    last = StageResult.read(results[-1]) if results else StageResult()
    stage = f"stage {len(results)}"
    if last.killed:
        return Verdict(outcome=Outcome.TIMED_OUT, reason=f"{stage}: ran longer than its time limit")
    if last.out_of_memory:
        return Verdict(outcome=Outcome.OUT_OF_MEMORY, reason=f"{stage}: used more memory than its limit")
    if last.exit_code is not None:
        return Verdict(outcome=Outcome.FAILED, reason=f"{stage}: exit code {last.exit_code}")
    return Verdict(outcome=Outcome.FAILED)

"""A job's outcome, computed from its stages by pure functions. The first failing stage decides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from broadway.domain.job import Outcome
from broadway.domain.originals import Reported
from broadway.domain.result import Scores, StageResult
from broadway.grader.ports import KilledFor, StageRun

_SIGNALLED = 128  # shells and engines report signal n, of 1 to 64, as exit code 128 + n
_LAST_SIGNAL = 64
RESULTS = "results"  # the beginning of a reason that concerns them
MAX_REASONS = 2  # of a success, in the reason of a job
OUT_OF_MEMORY_INSIDE = (
    "succeeded, though one of its processes was killed: the stage, with the files that it wrote below /job, used more "
    "memory than its limit"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome, and the reason in words."""

    outcome: Outcome
    reason: str


def judge(run: StageRun) -> Verdict:
    """Return one stage's verdict.

    Causes are checked in this order: cancellation, time, memory, output or disk, start, signal, exit code. A stage with
    exit code 0 has succeeded, even if one of its processes ran out of memory: a harness may survive the student's
    program and report its result. The reason mentions it nevertheless.
    """
    if run.killed_for is KilledFor.CANCEL:
        return Verdict(Outcome.CANCELLED, "cancelled while it ran")
    if run.killed_for is KilledFor.TIME:
        return Verdict(Outcome.TIMED_OUT, "ran longer than its time limit")
    if run.oom_killed and run.exit_code != 0:
        return Verdict(Outcome.OUT_OF_MEMORY, "used more memory than its limit")
    if run.killed_for in (KilledFor.OUTPUT, KilledFor.DISK):
        return Verdict(Outcome.OUTPUT_LIMIT, _wrote(run))
    if failure := _failure(run):
        return Verdict(Outcome.FAILED, failure)
    return Verdict(Outcome.SUCCEEDED, OUT_OF_MEMORY_INSIDE if run.oom_killed else "")


def is_complete(run: StageRun) -> bool:
    """Return whether a stage started and ended by itself, whatever its exit code."""
    return run.killed_for is None and not run.not_started and not (run.oom_killed and run.exit_code)


def judge_report(run: StageRun, reported: Reported | None) -> Verdict:
    """Return the verdict of a stage whose results have a format.

    The report of a complete stage decides, whatever the exit code. Results that are missing or malformed are an error
    of the autograder, which the course staff must correct: the submission is not graded.
    """
    verdict = judge(run)
    if reported is None or not is_complete(run):
        return verdict
    if reported.report is None:
        return Verdict(Outcome.INFRASTRUCTURE_ERROR, f"{RESULTS}: {reported.problem}")
    return verdict if verdict.outcome is Outcome.SUCCEEDED else Verdict(Outcome.SUCCEEDED, "")


def _failure(run: StageRun) -> str:
    """Return the reason for which a stage failed within its limits; empty if it succeeded."""
    if run.not_started:
        return run.not_started
    if signal := _signal(run):
        return f"ended by signal {signal}"
    return f"exit code {run.exit_code}" if run.exit_code else ""


def _signal(run: StageRun) -> int | None:
    """Return the number of the signal that ended a stage, or None."""
    return run.exit_code - _SIGNALLED if _SIGNALLED < run.exit_code <= _SIGNALLED + _LAST_SIGNAL else None


def _wrote(run: StageRun) -> str:
    if run.killed_for is KilledFor.DISK:
        return "wrote more to its disk than its limit"
    return f"wrote more output than its limit ({run.output_bytes} bytes)"


def judge_all(verdicts: Sequence[Verdict], *, stages: int) -> Verdict:
    """Return a job's verdict from those of the stages that ran; ``stages`` is the number of all its stages.

    The reason names the failed stage; of a success, each stage that has a reason. A job that ended between two stages,
    or before the first one, was cancelled.
    """
    if len(verdicts) < stages and all(each.outcome is Outcome.SUCCEEDED for each in verdicts):
        return Verdict(Outcome.CANCELLED, f"cancelled before stage {len(verdicts) + 1} of {stages}")
    last = verdicts[-1]
    if last.outcome is not Outcome.SUCCEEDED:
        return Verdict(last.outcome, f"stage {len(verdicts)} of {stages}: {last.reason}")
    reasons = [f"stage {number} of {stages}: {each.reason}" for number, each in enumerate(verdicts, 1) if each.reason]
    return Verdict(last.outcome, "; ".join(reasons[:MAX_REASONS]))


def stage_result(
    run: StageRun,
    verdict: Verdict,
    scores: Scores | None = None,
    reported: Reported | None = None,
    *,
    pull_seconds: float = 0.0,
) -> StageResult:
    """Return the result of a stage that ran; ``pull_seconds`` is the time for which it waited for its image."""
    usage = run.usage and replace(
        run.usage,
        pull_seconds=pull_seconds,
        wall_seconds=(run.finished_at - run.started_at).total_seconds(),
        output_bytes=run.output_bytes,
    )
    return StageResult(
        success=verdict.outcome is Outcome.SUCCEEDED,
        state=run.state,
        killed=run.killed_for is not None,
        killed_for=run.killed_for.value if run.killed_for else None,
        signal=_signal(run),
        usage=usage,
        streams=tuple(run.streams),
        scores=scores,
        reported=reported,
    )

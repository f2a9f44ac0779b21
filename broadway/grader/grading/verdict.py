"""From what the stages did to the job's outcome: a pure function. The first failing stage decides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from broadway.domain.job import Outcome
from broadway.domain.result import Scores, StageResult
from broadway.grader.ports import KilledFor, StageRun

_SIGNALLED = 128  # a shell's and the engine's exit codes above this are signals, of which there are 64
_LAST_SIGNAL = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """A stage's outcome, and why, in words."""

    outcome: Outcome
    reason: str


def judge(run: StageRun) -> Verdict:
    """One stage's outcome: killed for time, then memory, then output or disk, then a signal, then the exit code.

    A stage that ended with 0 has succeeded, even if one of its processes ran out of memory: a harness that survives
    its student has said what it wanted to say.
    """
    if run.killed_for is KilledFor.TIME:
        return Verdict(Outcome.TIMED_OUT, "ran longer than its time limit")
    if run.oom_killed and run.exit_code != 0:
        return Verdict(Outcome.OUT_OF_MEMORY, "used more memory than its limit")
    if run.killed_for in (KilledFor.OUTPUT, KilledFor.DISK):
        return Verdict(Outcome.OUTPUT_LIMIT, _wrote(run))
    if signal := _signal(run):
        return Verdict(Outcome.FAILED, f"ended by signal {signal}")
    if run.exit_code != 0:
        return Verdict(Outcome.FAILED, f"exit code {run.exit_code}")
    return Verdict(Outcome.SUCCEEDED, "")


def _signal(run: StageRun) -> int | None:
    """Which signal has ended it."""
    return run.exit_code - _SIGNALLED if _SIGNALLED < run.exit_code <= _SIGNALLED + _LAST_SIGNAL else None


def _wrote(run: StageRun) -> str:
    if run.killed_for is KilledFor.DISK:
        return "wrote more to its disk than its limit"
    return f"wrote more output than its limit ({run.output_bytes} bytes)"


def judge_all(verdicts: Sequence[Verdict], *, stages: int) -> Verdict:
    """A job's outcome from those of the stages that ran; ``stages`` is how many it has."""
    last = verdicts[-1]
    if last.outcome is Outcome.SUCCEEDED:
        return last
    return Verdict(last.outcome, f"stage {len(verdicts)} of {stages}: {last.reason}")


def stage_result(
    run: StageRun, verdict: Verdict, scores: Scores | None = None, *, pull_seconds: float = 0.0
) -> StageResult:
    """The result of a stage that ran; ``pull_seconds`` is the time that its image took to arrive."""
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
    )

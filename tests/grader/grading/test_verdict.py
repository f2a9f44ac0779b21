"""Verdicts: from the run of a stage to its outcome."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broadway.domain.job import Outcome
from broadway.domain.result import Usage
from broadway.grader.grading.verdict import OUT_OF_MEMORY_INSIDE, judge, judge_all, stage_result
from broadway.grader.ports import KilledFor, StageRun
from broadway.messages.http import MAX_REASON

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD, BAD = 0, 1


def ran(code: int, killed_for: KilledFor | None = None, *, oom: bool = False) -> StageRun:
    state = {"ExitCode": code, "OOMKilled": oom}
    return StageRun(code, killed_for, oom, T0, T0, output="text", output_bytes=12345, state=state)


@pytest.mark.parametrize(
    ("run", "outcome", "reason"),
    [
        (ran(0), Outcome.SUCCEEDED, ""),
        (replace(ran(127), not_started="/job/a.out cannot be started"), Outcome.FAILED, "/job/a.out cannot be started"),
        (ran(1), Outcome.FAILED, "exit code 1"),
        (ran(127), Outcome.FAILED, "exit code 127"),
        (ran(128), Outcome.FAILED, "exit code 128"),
        (ran(134), Outcome.FAILED, "signal 6"),
        (ran(137), Outcome.FAILED, "signal 9"),
        (ran(139), Outcome.FAILED, "signal 11"),
        (ran(192), Outcome.FAILED, "signal 64"),
        (ran(193), Outcome.FAILED, "exit code 193"),
        (ran(255), Outcome.FAILED, "exit code 255"),
        (ran(137, oom=True), Outcome.OUT_OF_MEMORY, "memory"),
        (ran(1, oom=True), Outcome.OUT_OF_MEMORY, "memory"),
        (ran(137, KilledFor.TIME), Outcome.TIMED_OUT, "time limit"),
        (ran(0, KilledFor.TIME), Outcome.TIMED_OUT, "time limit"),
        (ran(137, KilledFor.TIME, oom=True), Outcome.TIMED_OUT, "time limit"),
        (ran(137, KilledFor.OUTPUT), Outcome.OUTPUT_LIMIT, "12345 bytes"),
        (ran(0, KilledFor.OUTPUT), Outcome.OUTPUT_LIMIT, "12345 bytes"),
        (ran(137, KilledFor.OUTPUT, oom=True), Outcome.OUT_OF_MEMORY, "memory"),
        (ran(137, KilledFor.DISK), Outcome.OUTPUT_LIMIT, "wrote more to its disk than its limit"),
        (ran(1, KilledFor.DISK), Outcome.OUTPUT_LIMIT, "wrote more to its disk than its limit"),
        (ran(0, KilledFor.DISK), Outcome.OUTPUT_LIMIT, "wrote more to its disk than its limit"),
        (ran(137, KilledFor.DISK, oom=True), Outcome.OUT_OF_MEMORY, "memory"),
        (ran(137, KilledFor.CANCEL), Outcome.CANCELLED, "cancelled while it ran"),
        (ran(0, KilledFor.CANCEL), Outcome.CANCELLED, "cancelled while it ran"),
        (ran(137, KilledFor.CANCEL, oom=True), Outcome.CANCELLED, "cancelled while it ran"),
    ],
)
def test_the_verdict_on_a_stage(run: StageRun, outcome: Outcome, reason: str) -> None:
    verdict = judge(run)

    assert verdict.outcome is outcome
    assert reason in verdict.reason
    assert bool(verdict.reason) is (outcome is not Outcome.SUCCEEDED)
    entry = stage_result(run, verdict).entry()
    del entry["signal"]
    assert entry == {
        "data": {"ExitCode": run.exit_code, "OOMKilled": run.oom_killed},
        "killed": run.killed_for is not None,
        "killed_for": run.killed_for,
        "success": outcome is Outcome.SUCCEEDED,
    }


@pytest.mark.parametrize(
    ("code", "signal"),
    [(0, None), (1, None), (128, None), (129, 1), (137, 9), (192, 64), (193, None), (255, None)],
)
def test_the_exit_code_gives_the_signal_that_ended_a_stage(code: int, signal: int | None) -> None:
    assert stage_result(ran(code), judge(ran(code))).signal == signal


def test_the_usage_of_a_stage_is_reported() -> None:
    usage = Usage("sha256:1", create_seconds=0.1, start_seconds=0.2, cpu_seconds=0.3, peak_memory=4)
    run = replace(ran(0), usage=usage, finished_at=T0 + timedelta(seconds=2))

    assert stage_result(run, judge(run), pull_seconds=7.5).entry()["usage"] == {
        "image": "sha256:1",
        "pull_seconds": 7.5,
        "create_seconds": 0.1,
        "start_seconds": 0.2,
        "wall_seconds": 2.0,
        "cpu_seconds": 0.3,
        "peak_memory": 4,
        "output_bytes": 12345,
    }


def test_no_stage_is_an_infrastructure_error() -> None:
    outcomes = {
        judge(ran(code, killed_for, oom=oom)).outcome
        for code in range(256)
        for killed_for in (None, *KilledFor)
        for oom in (False, True)
    }

    assert outcomes == {
        Outcome.SUCCEEDED,
        Outcome.FAILED,
        Outcome.TIMED_OUT,
        Outcome.OUT_OF_MEMORY,
        Outcome.OUTPUT_LIMIT,
        Outcome.CANCELLED,
    }


@pytest.mark.parametrize(
    ("codes", "outcome", "reason"),
    [
        ([GOOD, GOOD, GOOD], Outcome.SUCCEEDED, ""),
        ([BAD], Outcome.FAILED, "stage 1 of 3: exit code 1"),
        ([GOOD, GOOD, BAD], Outcome.FAILED, "stage 3 of 3: exit code 1"),
        ([], Outcome.CANCELLED, "cancelled before stage 1 of 3"),
        ([GOOD, GOOD], Outcome.CANCELLED, "cancelled before stage 3 of 3"),
    ],
)
def test_the_last_stage_that_ran_decides(codes: list[int], outcome: Outcome, reason: str) -> None:
    verdict = judge_all([judge(ran(code)) for code in codes], stages=3)

    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_a_success_mentions_a_process_that_ran_out_of_memory() -> None:
    odd = judge(ran(0, oom=True))
    assert (odd.outcome, odd.reason) == (Outcome.SUCCEEDED, OUT_OF_MEMORY_INSIDE)

    whole = judge_all([judge(ran(0)), odd, judge(ran(0))], stages=3)
    assert (whole.outcome, whole.reason) == (Outcome.SUCCEEDED, f"stage 2 of 3: {OUT_OF_MEMORY_INSIDE}")
    assert len(judge_all([odd] * 1000, stages=1000).reason) < MAX_REASON

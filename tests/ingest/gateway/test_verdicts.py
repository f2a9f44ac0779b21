"""Verdicts on the results of graders that speak the original's protocols."""

from typing import Any

import pytest
from pydantic import ValidationError

from broadway.domain.job import FaultPhase, Outcome
from broadway.ingest.gateway.verdicts import judge
from broadway.messages.http import JobResult

NOT_FOUND = 'exec: "/job/a.out": stat /job/a.out: no such file or directory: unknown'
CRASH = {"stdout": "the container crashed", "stderr": "500 Server Error"}


def result(*, success: bool = False, **more: Any) -> JobResult:
    body: dict[str, Any] = {"grading_job_id": "a" * 24, "success": success, "results": [], "logs": {}}
    return JobResult.model_validate(body | more)


def entry(*, killed: bool = False, code: int = 1, oom: bool = False) -> dict[str, Any]:
    return {"success": False, "killed": killed, "data": {"ExitCode": code, "OOMKilled": oom}}


@pytest.mark.parametrize(
    ("said", "outcome", "reason"),
    [
        ({"success": True}, Outcome.SUCCEEDED, ""),
        ({}, Outcome.FAILED, ""),
        ({"results": [{"res": "anything"}]}, Outcome.FAILED, ""),
        ({"results": [{"data": "no object"}]}, Outcome.FAILED, ""),
        ({"results": [{"success": True}, entry(code=3)]}, Outcome.FAILED, "stage 2: exit code 3"),
        ({"results": [entry(killed=True, code=137)]}, Outcome.TIMED_OUT, "stage 1: ran longer than its time limit"),
        ({"results": [entry(oom=True, code=137)]}, Outcome.OUT_OF_MEMORY, "stage 1: used more memory than its limit"),
        ({"results": [{"success": False}], "logs": CRASH}, Outcome.INFRASTRUCTURE_ERROR, "500 Server Error"),
        ({"results": [entry()], "logs": CRASH}, Outcome.FAILED, "stage 1: exit code 1"),
    ],
)
def test_the_outcome_follows_from_the_result(said: dict[str, Any], outcome: Outcome, reason: str) -> None:
    verdict = judge(result(**said))

    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    assert verdict.retryable is (outcome is Outcome.INFRASTRUCTURE_ERROR)


@pytest.mark.parametrize(
    "error",
    [
        f'500 Server Error: Internal Server Error ("OCI runtime create failed: {NOT_FOUND}")',
        f"DockerError(400, '{NOT_FOUND}')",
        NOT_FOUND.replace('"', '\\"'),
        'exec: "/job/a.out": permission denied',
        'exec: "/job/../job/a.out": stat /job/../job/a.out: too many levels of symbolic links',
    ],
)
def test_a_program_below_job_that_was_not_started_is_the_students_failure(error: str) -> None:
    verdict = judge(result(results=[{"success": False}], logs={"stdout": "The container crashed", "stderr": error}))

    assert verdict.outcome is Outcome.FAILED
    assert verdict.reason == "/job/a.out cannot be started: it is no executable file"


@pytest.mark.parametrize(
    "error",
    [
        NOT_FOUND.replace("/job/a.out", "/bin/a.out"),
        NOT_FOUND.replace("/job/a.out", "/job/../bin/a.out"),
        NOT_FOUND.replace("/job/a.out", "/jobs/a.out"),
        'exec: "a.out": executable file not found in $PATH',
        'exec: "/job/a.out": the disk is on fire',
        'error mounting "/work" to rootfs at "/job/a.out": permission denied',
    ],
)
def test_another_program_or_error_stays_a_fault_of_the_infrastructure(error: str) -> None:
    verdict = judge(result(results=[{"success": False}], logs={"stdout": "The container crashed", "stderr": error}))

    assert (verdict.outcome, verdict.retryable) == (Outcome.INFRASTRUCTURE_ERROR, True)


def test_a_reported_verdict_is_accepted() -> None:
    reported = {"outcome": "infrastructure_error", "reason": "no such image", "fault_phase": "pull", "retryable": False}

    verdict = judge(result(verdict=reported))

    assert (verdict.outcome, verdict.fault_phase, verdict.retryable) == (
        Outcome.INFRASTRUCTURE_ERROR,
        FaultPhase.PULL,
        False,
    )


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"verdict": {"outcome": "succeeded"}}, "contradicts success"),
        ({"verdict": {"outcome": "failed"}, "success": True}, "contradicts success"),
        ({"verdict": {"outcome": "cancelled"}}, "cannot come to 'cancelled'"),
        ({"verdict": {"outcome": "good"}}, "verdict.outcome"),
        ({"logs": {"stdout": 1}}, "logs.stdout"),
        ({"logs": {"other": ""}}, "logs.other"),
        ({"logs": None}, "logs"),
        ({"results": [1]}, "results.0"),
        ({"results": None}, "results"),
        ({"success": 1}, "success"),
        ({"grading_job_id": 1}, "grading_job_id"),
        ({"extra": 1}, "extra"),
    ],
)
def test_the_error_names_the_wrong_field(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as refused:
        result(**wrong)

    problems = [".".join(map(str, e["loc"])) + " " + e["msg"] for e in refused.value.errors()]
    assert any(named in problem for problem in problems)

"""The last outcomes, kept for jobs that come back."""

from datetime import UTC, datetime

import pytest

from broadway.events import JobDispatched, JobFinished
from broadway.grader.reported import Reported
from broadway.job import Outcome, Phase

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def outcome(job_id: str, *, stdout: str = "", stderr: str = "", document: str = "") -> JobFinished:
    return JobFinished(
        course="cs1",
        run_id="r1",
        job_id=job_id,
        generation=1,
        execution_id="e1",
        grader_id="g1",
        started_at=T0,
        finished_at=T0,
        outcome=Outcome.SUCCEEDED,
        results=[{"success": True}, {"success": True, "scores": {"document": document}}],
        stdout=stdout,
        stderr=stderr,
    )


def start(job_id: str, *, generation: int = 1, attempt: int = 1) -> JobDispatched:
    return JobDispatched(
        course="cs1",
        run_id="r1",
        job_id=job_id,
        generation=generation,
        assignment="mp1",
        phase=Phase.STUDENTS,
        attempt=attempt,
        stages=[],
    )


def test_an_outcome_is_of_one_start_of_one_job() -> None:
    reported = Reported()
    reported.add(outcome("j1"))
    assert reported.get(start("j1")) == outcome("j1")
    for other in (start("j2"), start("j1", generation=2), start("j1", attempt=2)):
        assert reported.get(other) is None


def test_the_oldest_go_when_there_are_too_many() -> None:
    reported = Reported(most=2)
    for job_id in ("j1", "j2", "j1", "j3"):  # what is reported once more is no second one
        reported.add(outcome(job_id))
    assert [job_id for job_id in ("j1", "j2", "j3") if reported.get(start(job_id))] == ["j2", "j3"]


@pytest.mark.parametrize("part", ["stdout", "stderr", "document"])
def test_the_oldest_go_when_they_are_too_long(part: str) -> None:
    reported = Reported(room=1000)
    for job_id in ("j1", "j2", "j3"):
        reported.add(outcome(job_id, **{part: "x" * 400}))
    assert [job_id for job_id in ("j1", "j2", "j3") if reported.get(start(job_id))] == ["j2", "j3"]


def test_one_that_is_too_long_by_itself_is_not_kept_and_drops_no_other() -> None:
    reported = Reported(room=1000)
    reported.add(outcome("j1"))
    reported.add(outcome("j2", stdout="x" * 1001))
    assert reported.get(start("j1")) == outcome("j1")
    assert reported.get(start("j2")) is None

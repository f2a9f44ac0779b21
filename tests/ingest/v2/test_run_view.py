"""A run in v2: the times and outcomes of its phases, and the reason for its failure."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broadway.domain.job import Job, JobClass, JobState, Outcome, Phase
from broadway.domain.progress import JobProgress, RunProgress
from broadway.domain.run import Run, RunState
from broadway.ingest.v2.views.jobs import job_view
from broadway.ingest.v2.views.runs import run_detail
from broadway.messages.resources.runs import PhaseView

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
PRE, STUDENTS, POST = Phase


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def job(phase: Phase, index: int = 0, *, queued: float = 0, started: float | None = None, **more: Any) -> Job:
    return Job(
        id=f"{phase.value}-{index}",
        run_id="r1",
        course="cs1",
        assignment="mp1",
        phase=phase,
        index=index,
        job_class=JobClass.BULK,
        pool="default",
        queued_at=at(queued),
        started_at=None if started is None else at(started),
        **{"state": JobState.QUEUED if started is None else JobState.RUNNING} | more,
    )


def ended(outcome: Outcome, finished: float, reason: str = "") -> dict[str, Any]:
    success = outcome is Outcome.SUCCEEDED
    over = {"state": JobState.FINISHED, "finished_at": at(finished)}
    return {**over, "outcome": outcome, "success": success, "reason": reason}


def progress(job: Job) -> JobProgress:
    return JobProgress(**{field.name: getattr(job, field.name) for field in fields(JobProgress)})


def detail(*jobs: Job, state: RunState = RunState.FINISHED) -> tuple[str, list[PhaseView]]:
    run = Run(id="r1", course="cs1", assignment="mp1", state=state, started_at=T0, config={}, students_env=[])
    view = run_detail(RunProgress(run, [progress(each) for each in jobs], {each.id: each.reason for each in jobs}))
    return view.reason, view.phases


def test_each_started_phase_has_its_times_and_outcomes() -> None:
    why, phases = detail(
        job(PRE, started=1, **ended(Outcome.SUCCEEDED, 2)),
        job(STUDENTS, 0, queued=3, started=5, **ended(Outcome.SUCCEEDED, 9)),
        job(STUDENTS, 1, queued=3, started=4, **ended(Outcome.FAILED, 20, "stage 1 of 1: exit code 1")),
        job(STUDENTS, 2, queued=3, started=6, **ended(Outcome.TIMED_OUT, 10, "ran longer than its time limit")),
        job(STUDENTS, 3, queued=3, started=6, **ended(Outcome.SUCCEEDED, 11)),
    )

    assert why == "", "what students' jobs come to does not fail a run"
    pre, students = phases
    assert pre == PhaseView(
        phase="pre-processing",
        state="finished",
        jobs=1,
        outcomes={"succeeded": 1},
        queued_at=at(0),
        started_at=at(1),
        finished_at=at(2),
        reason="",
    )
    assert students == PhaseView(
        phase="students",
        state="finished",
        jobs=4,
        outcomes={"succeeded": 2, "failed": 1, "timed_out": 1},
        queued_at=at(3),
        started_at=at(4),
        finished_at=at(20),
        reason="stage 1 of 1: exit code 1",
    )


def test_a_phase_is_over_when_all_of_its_jobs_are() -> None:
    waiting, running = job(STUDENTS, 1), job(STUDENTS, 2, started=3)
    done = job(STUDENTS, 0, started=1, **ended(Outcome.SUCCEEDED, 2))

    states = [detail(*jobs)[1][0] for jobs in ([waiting], [waiting, running], [done, waiting], [done])]

    assert [each.state for each in states] == ["queued", "running", "running", "finished"]
    assert [each.finished_at for each in states] == [None, None, None, at(2)]
    assert [each.outcomes for each in states] == [{}, {}, {"succeeded": 1}, {"succeeded": 1}]


@pytest.mark.parametrize(
    ("jobs", "why"),
    [
        ([job(PRE, started=1, **ended(Outcome.FAILED, 2, "exit code 3"))], "pre-processing: exit code 3"),
        ([job(PRE, started=1, **ended(Outcome.FAILED, 2))], "pre-processing: failed"),
        (
            [
                job(STUDENTS, 0, started=1, **ended(Outcome.FAILED, 2, "exit code 1")),
                job(POST, started=3, **ended(Outcome.OUT_OF_MEMORY, 4, "used more memory than its limit")),
            ],
            "post-processing: used more memory than its limit",
        ),
        (
            [
                job(STUDENTS, 0, started=1, **ended(Outcome.FAILED, 2, "exit code 1")),
                job(STUDENTS, 1, **ended(Outcome.CANCELLED, 3, "the wrong tests")),
                job(STUDENTS, 2, **ended(Outcome.CANCELLED, 3, "the wrong tests")),
            ],
            "the wrong tests",
        ),
        (
            [
                job(PRE, started=7, **ended(Outcome.FAILED, 8, "exit code 3")),
                job(POST, **ended(Outcome.CANCELLED, 6, "an earlier phase of the run starts again")),
            ],
            "pre-processing: exit code 3",
        ),
        ([], ""),
    ],
)
def test_a_failed_run_has_the_reason_that_ended_it(jobs: list[Job], why: str) -> None:
    assert detail(*jobs, state=RunState.FAILED)[0] == why
    assert detail(*jobs, state=RunState.STUDENTS)[0] == ""


def test_stages_have_their_times_and_the_last_executed_one_has_the_reason() -> None:
    first = {"data": {"StartedAt": "2026-03-01T12:00:01.123456789Z", "FinishedAt": "2026-03-01T12:00:02Z"}}
    second = {"data": {"StartedAt": "2026-03-01T12:00:03Z", "FinishedAt": "0001-01-01T00:00:00Z"}}
    results = [first, second]
    failed = job(STUDENTS, started=1, results=results, **ended(Outcome.FAILED, 4, "stage 2 of 3: exit code 1"))

    stages = job_view(failed, [{"image": "a"}, {"image": "b"}, {"image": "c"}]).stages

    assert [each.started_at for each in stages] == [at(1.123456), at(3), None]
    assert [each.finished_at for each in stages] == [at(2), None, None]
    assert [each.reason for each in stages] == ["", "stage 2 of 3: exit code 1", ""]


@pytest.mark.parametrize("time", [None, 7, "soon", "2026-03-01T12:00:03", "99999-01-01T00:00:00Z", {}])
def test_an_invalid_time_from_a_grader_is_none(time: Any) -> None:
    results = [{"data": {"StartedAt": time}}]
    (stage,) = job_view(job(STUDENTS, started=1, results=results, **ended(Outcome.FAILED, 4)), [{}]).stages

    assert stage.started_at == (at(3) if time == "2026-03-01T12:00:03" else None)


def test_the_stages_of_a_job_that_was_cancelled_have_no_reason() -> None:
    cancelled = ended(Outcome.CANCELLED, 4, "not wanted")
    (stage,) = job_view(job(STUDENTS, results=[{"result": "not wanted"}], **cancelled), [{}]).stages

    assert stage.reason == ""

"""The spans of a job: they nest, their ids follow from the job's, and only the infrastructure's errors are errors."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broadway.domain.job import Attempt, Job, JobClass, JobState, Outcome, Phase
from broadway.domain.result import StageResult, Usage
from broadway.domain.spans import Span, is_sampled, of_backlog, of_job, of_stages

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
REQUEST = "00f067aa0ba902b7"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-{REQUEST}-01"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def ended(*attempts: Attempt, outcome: Outcome = Outcome.SUCCEEDED, reason: str = "") -> Job:
    return Job(
        id="a" * 24,
        run_id="b" * 24,
        course="cs1",
        assignment="mp1",
        phase=Phase.STUDENTS,
        index=0,
        job_class=JobClass.BULK,
        pool="default",
        queued_at=T0,
        state=JobState.FINISHED,
        finished_at=at(30),
        attempts=attempts,
        outcome=outcome,
        reason=reason,
        traceparent=TRACEPARENT,
    )


LOST = Attempt("e1", "g1", at(2), at(9), Outcome.INFRASTRUCTURE_ERROR, "the engine is down")
GRADED = Attempt("e2", "g2", at(12), at(28), Outcome.FAILED, "exit code 1")


def by_name(spans: Sequence[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


def test_a_job_has_a_span_with_its_wait_and_its_attempts() -> None:
    job, wait, lost, graded = of_job(ended(LOST, GRADED, outcome=Outcome.FAILED, reason="exit code 1"))

    assert [each.name for each in (job, wait, lost, graded)] == ["job", "wait", "attempt", "attempt"]
    assert {each.trace_id for each in (job, wait, lost, graded)} == {TRACE}
    assert job.parent_id == REQUEST
    assert {each.parent_id for each in (wait, lost, graded)} == {job.span_id}
    assert (job.start, job.end) == (T0, at(30))
    assert (wait.start, wait.end) == (T0, at(2))
    assert (graded.start, graded.end) == (at(12), at(28))
    assert job.attributes["broadway.outcome"] == "failed"
    assert job.attributes["broadway.attempts"] == 2


def test_only_the_errors_of_the_infrastructure_are_errors() -> None:
    job, _, lost, graded = of_job(ended(LOST, GRADED, outcome=Outcome.FAILED, reason="exit code 1"))

    assert (job.error, graded.error) == ("", "")
    assert lost.error == "the engine is down"
    given_up = of_job(ended(LOST, outcome=Outcome.INFRASTRUCTURE_ERROR, reason="wait: the engine is down"))
    assert given_up[0].error == "wait: the engine is down"


def test_an_attempt_that_never_reported_its_end_lasts_until_the_job_ends() -> None:
    open_one = Attempt("e1", "g1", at(2))
    *_, attempt = of_job(ended(open_one, outcome=Outcome.INFRASTRUCTURE_ERROR))

    assert attempt.end == at(30)
    assert attempt.error == "the grader has not reported its end"


def test_released_attempts_and_those_before_a_rerun_are_no_part_of_the_job() -> None:
    earlier = replace(GRADED, execution_id="e0", started_at=at(-60), ended_at=at(-50))
    spans = of_job(ended(earlier, replace(LOST, released=True, outcome=None), GRADED))

    assert [span.attributes.get("broadway.execution") for span in spans if span.name == "attempt"] == ["e2"]


def test_a_job_that_never_started_waits_until_its_end() -> None:
    job, wait = of_job(ended(outcome=Outcome.CANCELLED, reason="not needed"))

    assert (wait.start, wait.end) == (job.start, job.end)


def test_a_rerun_has_spans_of_its_own() -> None:
    first, again = of_job(ended(GRADED)), of_job(replace(ended(GRADED), round=2))

    assert first[0].span_id != again[0].span_id
    assert first == of_job(ended(GRADED)), "the same span has the same id"


def test_the_backlog_is_a_part_of_the_wait() -> None:
    job = replace(ended(), state=JobState.QUEUED, finished_at=None, outcome=None)
    (backlog,) = of_backlog(job, at(1))
    wait = by_name(of_job(ended(GRADED)))["wait"]

    assert backlog.parent_id == wait.span_id
    assert (backlog.start, backlog.end) == (T0, at(1))


def test_the_backlog_of_a_further_attempt_is_a_part_of_the_job_and_begins_when_the_attempt_may_start() -> None:
    job = replace(ended(LOST), state=JobState.QUEUED, finished_at=None, outcome=None, not_before=at(10))
    (backlog,) = of_backlog(job, at(11))

    assert backlog.parent_id == of_job(ended(LOST))[0].span_id
    assert (backlog.start, backlog.end) == (at(10), at(11))


def result(start: float, end: float, **more: object) -> StageResult:
    times = {"StartedAt": at(start).isoformat(), "FinishedAt": at(end).isoformat()}
    return StageResult.read({"data": {**times, **more}, "success": True, "usage": {"create_seconds": 0.5}})


def test_stages_are_parts_of_their_attempt_and_containers_come_before_them() -> None:
    spans = of_stages(TRACEPARENT, "e2", [result(13, 15, ExitCode=0), result(16, 20, ExitCode=7)])
    stages = [span for span in spans if span.name == "stage"]
    attempt = of_job(ended(GRADED))[-1]

    assert [(span.start, span.end) for span in stages] == [(at(13), at(15)), (at(16), at(20))]
    assert {span.parent_id for span in stages} == {attempt.span_id}
    assert [span.attributes["broadway.exit_code"] for span in stages] == [0, 7]
    containers = [span for span in spans if span.name == "container"]
    assert [(span.start, span.end, span.parent_id) for span in containers] == [
        (at(12.5), at(13), stages[0].span_id),
        (at(15.5), at(16), stages[1].span_id),
    ]


@pytest.mark.parametrize(
    "broken",
    [StageResult(), result(9, 3), StageResult(usage=Usage(None, create_seconds=1.0))],
    ids=["empty", "reversed", "no-times"],
)
def test_a_stage_without_times_has_no_span(broken: StageResult) -> None:
    assert of_stages(TRACEPARENT, "e2", [broken]) == []


def test_a_container_that_took_longer_than_time_has_begun_with_its_stage() -> None:
    huge = replace(result(13, 15), usage=Usage(None, create_seconds=8e10))
    assert by_name(of_stages(TRACEPARENT, "e2", [huge]))["container"].start == at(13)


def test_a_job_without_a_trace_has_no_spans() -> None:
    job = replace(ended(GRADED), traceparent=None)

    assert of_job(job) == of_backlog(job, at(1)) == of_stages(None, "e2", [result(1, 2)]) == []


def test_every_service_samples_the_same_traces() -> None:
    low, high = "f" * 18 + "0" * 14, "0" * 18 + "f" * 14

    assert [is_sampled(low, share) for share in (0, 0.001, 1)] == [False, True, True]
    assert [is_sampled(high, share) for share in (0, 0.999, 1)] == [False, False, True]

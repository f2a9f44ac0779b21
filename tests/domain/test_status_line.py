from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from broadway.domain.job import Attempt, Job, JobClass, JobState, Outcome, Phase
from broadway.domain.report import Report
from broadway.domain.result import ReportNote, Scores
from broadway.domain.status_line import (
    JobFacts,
    Tone,
    facts_of,
    of_points,
    ordinal,
    score_of,
    status_of,
)
from broadway.domain.totals import why_total
from broadway.domain.visibility import Role
from broadway.domain.waiting_time import Wait

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
JOB = Job("j", "r", "cs1", "mp1", Phase.STUDENTS, 0, JobClass.BULK, "default", NOW)


@pytest.mark.parametrize(
    ("outcome", "word", "tone"),
    [
        (Outcome.SUCCEEDED, "graded", Tone.GOOD),
        (Outcome.FAILED, "not gradable", Tone.STUDENT),
        (Outcome.TIMED_OUT, "timed out", Tone.STUDENT),
        (Outcome.OUT_OF_MEMORY, "out of memory", Tone.STUDENT),
        (Outcome.OUTPUT_LIMIT, "too much output", Tone.STUDENT),
        (Outcome.INFRASTRUCTURE_ERROR, "error on our side", Tone.OURS),
        (Outcome.CANCELLED, "cancelled", Tone.NEUTRAL),
        (Outcome.SUPERSEDED, "superseded", Tone.NEUTRAL),
    ],
)
def test_each_outcome_without_a_report_has_words_of_its_own(outcome: Outcome, word: str, tone: Tone) -> None:
    for role in Role:
        line = status_of(JobFacts(JobState.FINISHED, outcome), role)
        assert (line.word, line.tone) == (word, tone)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_job_with_a_report_is_graded_unless_it_is_not_wanted_or_failed_on_our_side(outcome: Outcome) -> None:
    line = status_of(JobFacts(JobState.FINISHED, outcome, has_report=True), Role.STAFF)
    ours = (Outcome.CANCELLED, Outcome.SUPERSEDED, Outcome.INFRASTRUCTURE_ERROR)
    assert (line.word == "graded") is (outcome not in ours)


def test_a_report_that_is_not_gradable_charges_no_attempt_in_words() -> None:
    line = status_of(JobFacts(JobState.FINISHED, Outcome.SUCCEEDED, has_report=True, gradable=False), Role.STUDENT)
    assert (line.word, "no attempt" in line.sentence) == ("not gradable", True)


def test_reasons_are_for_staff_and_students_read_sentences() -> None:
    facts = JobFacts(JobState.FINISHED, Outcome.FAILED, reason="stage 1: exit 2 on /secret/path")
    assert status_of(facts, Role.STAFF).sentence == "stage 1: exit 2 on /secret/path"
    student = status_of(facts, Role.STUDENT).sentence
    assert "secret" not in student
    assert "one attempt" in student


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (JobFacts(JobState.QUEUED, ahead=0), "Next in the queue."),
        (JobFacts(JobState.DISPATCHED, ahead=2), "3rd in the queue."),
        (JobFacts(JobState.QUEUED, ahead=2, wait=Wait(39.2, 9.6)), "3rd in the queue, about 40 s (± 10 s)."),
        (JobFacts(JobState.QUEUED), ""),
        (
            JobFacts(JobState.QUEUED, attempts=1),
            "Something failed on our side. It is tried again by itself and uses no attempt.",
        ),
        (JobFacts(JobState.RUNNING, attempts=1), ""),
        (JobFacts(JobState.RUNNING, attempts=2), "Attempt 2: an earlier one failed on our side."),
    ],
)
def test_waiting_says_how_long_the_queue_is(facts: JobFacts, sentence: str) -> None:
    assert status_of(facts, Role.STUDENT).sentence == sentence


def test_the_lack_of_graders_is_for_staff() -> None:
    facts = JobFacts(JobState.QUEUED, ahead=4, waits_for="a grader in the pool gpu")
    assert status_of(facts, Role.STAFF).sentence == "It waits for a grader in the pool gpu."
    assert status_of(facts, Role.STUDENT).sentence == "5th in the queue."


def test_ordinals() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th")
    ]


@pytest.mark.parametrize(
    ("entry", "has_report", "gradable"),
    [
        ({}, False, True),
        ({"report": ReportNote("junit").document()}, True, True),
        ({"report": ReportNote("junit", gradable=False).document()}, True, False),
        ({"report": ReportNote(problem="results.json: not valid").document()}, False, True),
        ({"scores": {"score": 3, "max_score": 4}}, True, True),
    ],
    ids=["nothing", "report", "not gradable", "problem", "scores"],
)
def test_the_facts_of_a_job_come_from_its_results(entry: dict[str, Any], has_report: bool, gradable: bool) -> None:
    attempt = Attempt("e", "g", NOW)
    done = replace(JOB, state=JobState.FINISHED, outcome=Outcome.FAILED, attempts=(attempt,), results=[entry])
    facts = facts_of(done)
    assert (facts.has_report, facts.gradable, facts.attempts) == (has_report, gradable, 1)


def test_scores_without_a_report_are_exact() -> None:
    assert score_of([{"scores": {"score": 1.1, "max_score": 3}}, {}]) == (Decimal("1.1"), Decimal(3))
    assert score_of([{"scores": {"score": 1e300}}]) == (None, None)
    assert score_of([]) == (None, None)
    assert Scores.read({"score": 1}) is not None
    assert [of_points(None, None), of_points(Decimal("1.50"), None), of_points(Decimal(0), Decimal(20))] == [
        *("", "1.5", "0 of 20")
    ]


def report(score: int | None, *points: int | None) -> Report:
    tests = [
        {"key": str(n), "name": {"body": "t"}, "status": "passed", "score": value} for n, value in enumerate(points)
    ]
    return Report.model_validate({"source": "junit", "score": score, "tests": tests})


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (report(3, 1, 2), "2 tests give 3"),
        (report(1, 1, None), "1 test give 1"),
        (report(5, 1, 2), "2 tests give 3, and the autograder adds 2"),
        (report(1, 1, 2), "2 tests give 3, and the autograder takes 2 away"),
        (report(4), "the autograder gives the points as a whole"),
        (report(None, 1), "the autograder gave no points"),
    ],
)
def test_a_total_is_explained(given: Report, why: str) -> None:
    assert why_total(given, Role.STAFF) == why.replace("1 test give", "1 test gives")


def test_a_student_learns_nothing_about_hidden_tests_from_a_missing_total() -> None:
    texts = {why_total(each, Role.STUDENT) for each in (report(None), report(None, 1), report(None, 1, 2))}
    assert texts == {"no points are shown for this result"}

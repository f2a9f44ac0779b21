"""The result of a work that counts, of all jobs that grade it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from broadway.domain.handed_in import HandedIn, digest_of_config
from broadway.domain.job import Outcome
from broadway.domain.marks import Marks
from broadway.domain.report import Source
from broadway.domain.results_of_work import Receipt, Result, graded

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ENV = {"BROADWAY_STUDENT": "ada", "BROADWAY_SUBMITTED_AT": NOW.isoformat(), "BROADWAY_SUBMISSION": "w1"}


def result(
    outcome: Outcome, score: str | None = None, *, minute: int = 0, job: str = "j1", regrade: str = ""
) -> Result:
    marks = Marks(Source.AUTOLAB, Decimal(score), Decimal(10)) if score else Marks()
    handed_in = HandedIn("w1", "ada", NOW, regrade=regrade)
    ended = NOW + timedelta(minutes=minute)
    return Result(handed_in, job, 1, outcome, ended, execution=f"{job}-{minute}", marks=marks)


@pytest.mark.parametrize(
    ("results", "outcome", "score"),
    [
        ([], None, None),
        ([result(Outcome.SUCCEEDED, "7")], Outcome.SUCCEEDED, "7"),
        # An error of the infrastructure changes nothing that was there before.
        ([result(Outcome.SUCCEEDED, "7"), result(Outcome.INFRASTRUCTURE_ERROR, minute=1)], Outcome.SUCCEEDED, "7"),
        ([result(Outcome.SUCCEEDED, "7"), result(Outcome.CANCELLED, minute=1)], Outcome.SUCCEEDED, "7"),
        ([result(Outcome.SUCCEEDED, "7"), result(Outcome.FAILED, "5", minute=1, job="j2")], Outcome.FAILED, "5"),
        ([result(Outcome.INFRASTRUCTURE_ERROR)], Outcome.INFRASTRUCTURE_ERROR, None),
        ([result(Outcome.SUPERSEDED)], Outcome.SUPERSEDED, None),
        ([result(Outcome.SUCCEEDED, "7"), result(Outcome.SUCCEEDED, "9", minute=1, regrade="r")], "succeeded", "7"),
    ],
    ids=["none", "one", "error later", "cancelled later", "another job later", "error", "superseded", "regrade"],
)
def test_the_last_result_of_its_own_counts(results: list[Result], outcome: Outcome | None, score: str | None) -> None:
    for order in (results, list(reversed(results))):
        (found,) = graded([Receipt("w1", "ada", NOW)], order, [], points=Decimal(10))
        assert (found.work.outcome, found.work.score) == (outcome, None if score is None else Decimal(score))


def test_a_regrades_result_counts_if_it_is_published() -> None:
    results = [result(Outcome.SUCCEEDED, "7"), result(Outcome.SUCCEEDED, "9", minute=1, job="j2", regrade="r")]
    (found,) = graded([], results, [], points=None, published={"j2-1"})
    assert (found.work.score, found.result) == (Decimal(9), results[1])


def test_an_error_whose_rerun_waits_is_waited_for() -> None:
    waiting = [HandedIn("w1", "ada", NOW), HandedIn("w2", "bob", NOW), HandedIn("w3", "cyd", NOW, regrade="r")]
    found = graded([], [result(Outcome.INFRASTRUCTURE_ERROR)], waiting, points=None)
    assert {each.student: each.work.outcome for each in found} == {"ada": None, "bob": None}


def test_a_job_names_the_work_that_it_grades() -> None:
    assert HandedIn.of(ENV, "j1", config="c", trigger=None) == HandedIn("w1", "ada", NOW, "c")
    push = {key: value for key, value in ENV.items() if key != "BROADWAY_SUBMISSION"}
    assert HandedIn.of(push, "j1", config="c", trigger={"regrade": "r"}) == HandedIn("j1", "ada", NOW, "c", "r")


@pytest.mark.parametrize(
    "env",
    [
        {**ENV, "BROADWAY_STUDENT": ""},
        {**ENV, "BROADWAY_STUDENT": "x" * 256},
        {**ENV, "BROADWAY_SUBMITTED_AT": "yesterday"},
        {**ENV, "BROADWAY_SUBMITTED_AT": "2026-11-30T12:00"},
        {"STUDENT_ID": "ada"},
    ],
    ids=["no name", "a long name", "no time", "no zone", "the original's variables"],
)
def test_other_jobs_grade_no_work(env: dict[str, str]) -> None:
    assert HandedIn.of(env, "j1", config="", trigger=None) is None


def test_the_digest_of_a_config_is_that_of_the_part_that_grades_students() -> None:
    config = {"student_pipeline": [{"image": "a"}], "env": {"A": "1"}, "post_processing_pipeline": None}
    assert digest_of_config(config) == digest_of_config({**config, "pre_processing_pipeline": [{"image": "b"}]})
    assert digest_of_config(config) != digest_of_config({**config, "env": {"A": "2"}})

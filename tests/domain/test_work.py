"""Works: the results that count, and the limits of attempts with their refunds."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from broadway.domain.clock import Clock
from broadway.domain.job import Attempt, Job, JobClass, JobState, Outcome, Phase
from broadway.domain.marks import Marks
from broadway.domain.policy import AttemptLimits
from broadway.domain.report import Source
from broadway.domain.work import Work, beyond_limits, graded_attempt, work_of

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
TEN = Decimal(10)
BERLIN = Clock.of("Europe/Berlin")
LOST = Outcome.INFRASTRUCTURE_ERROR


def job(*outcomes: Outcome | None, released: bool = False) -> Job:
    """Return a job with an attempt for each outcome."""
    attempts = tuple(
        Attempt(f"e{number}", "g", NOW, NOW if outcome else None, outcome, released=released, generation=number)
        for number, outcome in enumerate(outcomes, start=1)
    )
    of_run = ("j", "r", "c", "a", Phase.STUDENTS, 0, JobClass.INTERACTIVE, "default", NOW)
    return Job(*of_run, state=JobState.FINISHED, attempts=attempts)


@pytest.mark.parametrize(
    ("outcomes", "counts"),
    [
        ([], None),
        ([None], None),
        ([LOST], None),
        ([Outcome.CANCELLED, Outcome.SUPERSEDED], None),
        ([Outcome.FAILED], "e1"),
        ([LOST, Outcome.SUCCEEDED], "e2"),
        ([Outcome.SUCCEEDED, LOST], "e1"),  # a rerun that the infrastructure spoiled
        ([Outcome.SUCCEEDED, Outcome.CANCELLED], "e1"),
        ([Outcome.SUCCEEDED, None], "e1"),
        ([Outcome.SUCCEEDED, Outcome.TIMED_OUT], "e2"),
    ],
    ids=str,
)
def test_the_last_attempt_with_an_outcome_of_its_own_counts(outcomes: list[Outcome | None], counts: str | None) -> None:
    found = graded_attempt(job(*outcomes))

    assert (found.execution_id if found else None) == counts


def test_an_attempt_that_its_grader_gave_back_does_not_count() -> None:
    assert graded_attempt(job(Outcome.SUCCEEDED, released=True)) is None


@pytest.mark.parametrize(
    ("outcome", "points", "score"),
    [
        (Outcome.SUCCEEDED, TEN, TEN),
        (Outcome.SUCCEEDED, None, None),
        (Outcome.FAILED, TEN, Decimal(0)),
        (Outcome.TIMED_OUT, None, Decimal(0)),
        (LOST, TEN, None),
        (Outcome.CANCELLED, TEN, None),
        (None, TEN, None),
    ],
)
def test_without_a_report_success_has_all_points(
    outcome: Outcome | None, points: Decimal | None, score: Decimal | None
) -> None:
    assert work_of("s", NOW, outcome, Marks(), points) == Work("s", NOW, outcome, score, points, has_report=False)


def test_the_report_decides_with_the_assignments_maximum() -> None:
    marks = Marks(Source.PRAIRIELEARN, score=Decimal("0.5"), max=Decimal(1), gradable=False)

    assert work_of("s", NOW, Outcome.FAILED, marks, TEN) == Work(
        "s", NOW, Outcome.FAILED, Decimal(5), TEN, gradable=False
    )


@pytest.mark.parametrize(
    ("work", "uses_attempt", "may_count", "is_unsettled"),
    [
        (Work("s", NOW, Outcome.SUCCEEDED), True, True, False),
        (Work("s", NOW, Outcome.FAILED), True, True, False),
        (Work("s", NOW, Outcome.OUTPUT_LIMIT), True, True, False),
        (Work("s", NOW, None), True, False, True),
        (Work("s", NOW, LOST), False, False, True),
        (Work("s", NOW, Outcome.CANCELLED), False, False, False),
        (Work("s", NOW, Outcome.SUPERSEDED), False, False, False),
        (Work("s", NOW, Outcome.FAILED, gradable=False), False, False, False),
    ],
)
def test_only_the_students_own_results_use_attempts(
    work: Work, *, uses_attempt: bool, may_count: bool, is_unsettled: bool
) -> None:
    assert (work.uses_attempt, work.may_count, work.is_unsettled) == (uses_attempt, may_count, is_unsettled)


def works(*minutes: int, lost: int | None = None) -> list[Work]:
    """Return submissions by the minutes of their receipt, which are their ids, too."""
    return [
        Work(str(each), NOW + timedelta(minutes=each), LOST if each == lost else Outcome.SUCCEEDED) for each in minutes
    ]


@pytest.mark.parametrize(
    ("limits", "given", "beyond"),
    [
        (AttemptLimits(), works(1, 2, 3), {}),
        (AttemptLimits(total=2), works(1, 2, 3, 4), {"3": 1, "4": 2}),
        (AttemptLimits(total=2), works(4, 3, 2, 1), {"3": 1, "4": 2}),
        (AttemptLimits(total=2), works(1, 2, 3, 4, lost=2), {"4": 1}),
        (AttemptLimits(total=2), works(1, 2, 3, 4, lost=3), {"3": 1, "4": 1}),
        (AttemptLimits(cooldown_seconds=600), works(0, 9, 10, 19, 20), {"9": 1, "19": 2}),
        (AttemptLimits(cooldown_seconds=600), works(0, 9, 10, lost=0), {"10": 1}),
    ],
    ids=["no limit", "total", "in any order", "refund", "refund beyond", "cooldown", "no cooldown after an error"],
)
def test_submissions_beyond_a_limit_are_numbered(
    limits: AttemptLimits, given: list[Work], beyond: dict[str, int]
) -> None:
    assert beyond_limits(limits, BERLIN, given) == beyond


def test_a_day_begins_at_its_reset_by_the_clock() -> None:
    limits = AttemptLimits.model_validate({"per_day": {"submissions": 1, "reset": "04:00"}})
    times = {  # in UTC; the clocks of Berlin are put back on 25 October at 01:00
        "evening": datetime(2026, 10, 24, 20, tzinfo=UTC),
        "before the reset": datetime(2026, 10, 25, 2, 59, 59, tzinfo=UTC),
        "at the reset": datetime(2026, 10, 25, 3, tzinfo=UTC),
        "25 hours later": datetime(2026, 10, 26, 3, tzinfo=UTC),
    }
    given = [Work(name, time, Outcome.SUCCEEDED) for name, time in times.items()]

    assert beyond_limits(limits, BERLIN, given) == {"before the reset": 1}

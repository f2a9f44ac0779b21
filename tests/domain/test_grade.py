"""Grades: for each kind of student, the grade and its lines."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from broadway.domain.counting import Adjustment, Decision
from broadway.domain.extension import Extension, ExtensionOrder, Member
from broadway.domain.grade import Grade, GradeStatus, grade
from broadway.domain.job import Outcome
from broadway.domain.policy import Policy
from broadway.domain.work import Work

TIMES = "\N{MULTIPLICATION SIGN}"
DUE = datetime(2026, 12, 4, 22, 59, tzinfo=UTC)  # 4 December, 23:59 in Berlin
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
TEN = Decimal(10)
RULES: dict[str, Any] = {
    "zone": "Europe/Berlin",
    "deadline": {
        "opens": "2026-11-20T08:00",
        "due": "2026-12-04T23:59",
        "closes": "2026-12-07T23:59",
        "grace_seconds": 300,
        "credit": [
            {"until": "2026-12-01T23:59", "percent": 110},
            {"until": "2026-12-05T23:59", "percent": 80},
        ],
    },
}
LATE_DAYS = {"late_days": {"per_assignment": 3, "per_course": 5}}
ADA = Member("ada")
DUE_LINE = "Due time: 4 Dec 2026, 23:59 CET."


def work(
    name: str, delay: timedelta, score: float | str | None = 9, outcome: Outcome | None = Outcome.SUCCEEDED
) -> Work:
    """Return a submission by the time between the due time and its receipt."""
    points = None if score is None or outcome is not Outcome.SUCCEEDED else Decimal(str(score))
    return Work(name, DUE + delay, outcome, points, TEN)


def extension(days: int, target: str = "student", name: str = "ada") -> Extension:
    return Extension("e", ExtensionOrder(target=target, name=name, add_days=days, reason="an illness"), DUE)


@dataclass(frozen=True)
class Case:
    """A student with submissions, and the grade that is expected."""

    name: str
    works: list[Work]
    points: str | None
    lines: list[str]
    rules: dict[str, Any] = field(default_factory=dict)
    member: Member = ADA
    extensions: list[Extension] = field(default_factory=list)
    adjustments: list[Adjustment] = field(default_factory=list)
    decision: Decision | None = None
    status: GradeStatus = GradeStatus.GRADED
    submission: str | None = "a"
    late_days: int = 0
    unsettled: tuple[str, ...] = ()


CASES = [
    Case(
        "on time",
        [work("a", -HOUR)],
        "9",
        [
            "Submission 1 of 1 (4 Dec 2026, 22:59 CET) counts: it is on time.",
            "Tests: 9 of 10 points.",
            "Grade: 9 of 10 points.",
        ],
    ),
    Case(
        "at the due time",
        [work("a", timedelta())],
        "9",
        [
            "Submission 1 of 1 (4 Dec 2026, 23:59 CET) counts: it is on time.",
            "Tests: 9 of 10 points.",
            "Grade: 9 of 10 points.",
        ],
    ),
    Case(
        "early",
        [work("a", -4 * DAY, score="9.5")],
        "10.45",
        [
            "Submission 1 of 1 (30 Nov 2026, 23:59 CET) counts: it is on time.",
            "Tests: 9.5 of 10 points.",
            f"Early bonus: 9.5 {TIMES} 110 % = 10.45.",
            "Grade: 10.45 of 10 points.",
        ],
    ),
    Case(
        "in grace",
        [work("a", timedelta(minutes=5))],
        "9",
        [
            (
                "Submission 1 of 1 (5 Dec 2026, 00:04 CET) counts: it is 5 minutes late, which the grace of 5 minutes "
                "allows."
            ),
            "Tests: 9 of 10 points.",
            "Grade: 9 of 10 points.",
        ],
    ),
    Case(
        "late by a second",
        [work("a", timedelta(minutes=5) + SECOND)],
        "7.2",
        [
            "Submission 1 of 1 (5 Dec 2026, 00:04:01 CET) counts: it is 5 minutes 1 second late.",
            "Tests: 9 of 10 points.",
            f"Late credit: 9 {TIMES} 80 % = 7.2.",
            "Grade: 7.2 of 10 points.",
        ],
    ),
    Case(
        "late by three days",
        [work("a", 3 * DAY)],
        None,
        [
            "No submission counts.",
            (
                "Submission 1 of 1 (7 Dec 2026, 23:59 CET) does not count: it is 3 days late, and late "
                "submissions get no points."
            ),
            "Grade: no points.",
        ],
        status=GradeStatus.NOT_COUNTED,
        submission=None,
    ),
    Case(
        "late by three days, with an extension",
        [work("a", 3 * DAY)],
        "9",
        [
            "Due time: 7 Dec 2026, 23:59 CET, with your extension.",
            "Submission 1 of 1 (7 Dec 2026, 23:59 CET) counts: it is on time.",
            "Tests: 9 of 10 points.",
            "Grade: 9 of 10 points.",
        ],
        extensions=[extension(3), extension(9, name="bob")],
    ),
    Case(
        "late by three days, with the extension of a group",
        [work("a", 3 * DAY)],
        "7.2",
        [
            "Due time: 6 Dec 2026, 23:59 CET, with your group's extension.",
            "Submission 1 of 1 (7 Dec 2026, 23:59 CET) counts: it is 1 day late.",
            "Tests: 9 of 10 points.",
            f"Late credit: 9 {TIMES} 80 % = 7.2.",
            "Grade: 7.2 of 10 points.",
        ],
        member=Member("ada", group="g"),
        extensions=[extension(2, "group", "g")],
    ),
    Case(
        "a worse submission within an extension",
        [work("a", -HOUR), work("b", 3 * DAY, score=5)],
        "9",
        [
            DUE_LINE,
            "Your extension would not make the grade better, so the assignment's own times hold.",
            "Submission 1 of 2 (4 Dec 2026, 22:59 CET) counts, the latest of those that may count: it is on time.",
            "Tests: 9 of 10 points.",
            (
                "Submission 2 of 2 (7 Dec 2026, 23:59 CET) does not count: it is 3 days late, and late "
                "submissions get no points."
            ),
            "Grade: 9 of 10 points.",
        ],
        extensions=[extension(3)],
    ),
    Case(
        "late by three days, with late days",
        [work("a", 3 * DAY)],
        "9",
        [
            "Submission 1 of 1 (7 Dec 2026, 23:59 CET) counts: it is 3 days late.",
            "Tests: 9 of 10 points.",
            "Late days: this submission uses 3, so that it loses no points; 1 of yours is left.",
            "Grade: 9 of 10 points.",
        ],
        rules=LATE_DAYS,
        member=Member("ada", late_days_left=4),
        late_days=3,
    ),
    Case(
        "late by three days, with too few late days",
        [work("a", 3 * DAY)],
        None,
        [
            "No submission counts.",
            (
                "Submission 1 of 1 (7 Dec 2026, 23:59 CET) does not count: it is 3 days late and needs 3 late "
                "days; you can use 2."
            ),
            "Grade: no points.",
        ],
        rules=LATE_DAYS,
        member=Member("ada", late_days_left=2),
        status=GradeStatus.NOT_COUNTED,
        submission=None,
    ),
    Case(
        "late by three days, with an extension and late days",
        [work("a", 3 * DAY)],
        "9",
        [
            "Due time: 7 Dec 2026, 23:59 CET, with your extension.",
            "Submission 1 of 1 (7 Dec 2026, 23:59 CET) counts: it is on time.",
            "Tests: 9 of 10 points.",
            "Grade: 9 of 10 points.",
        ],
        rules=LATE_DAYS,
        member=Member("ada", late_days_left=4),
        extensions=[extension(3)],
    ),
    Case(
        "late by a day, without late days",
        [work("a", DAY)],
        "7.2",
        [
            "Submission 1 of 1 (5 Dec 2026, 23:59 CET) counts: it is 1 day late.",
            "Tests: 9 of 10 points.",
            f"Late credit: 9 {TIMES} 80 % = 7.2.",
            "Grade: 7.2 of 10 points.",
        ],
        rules=LATE_DAYS,
    ),
    Case(
        "late days that were claimed",
        [work("a", DAY)],
        "9",
        [
            "Submission 1 of 1 (5 Dec 2026, 23:59 CET) counts: it is 1 day late.",
            "Tests: 9 of 10 points.",
            "Late days: this submission uses 1, so that it loses no points; 4 of yours are left.",
            "Grade: 9 of 10 points.",
        ],
        rules={"late_days": {"per_assignment": 3, "per_course": 5, "spend": "claimed"}},
        member=Member("ada", late_days_left=5, late_days_claimed=1),
        late_days=1,
    ),
    Case(
        "in a group, with late days",
        [work("a", -HOUR, score=4), work("b", 2 * DAY)],
        "9",
        [
            "Submission 2 of 2 (6 Dec 2026, 23:59 CET) counts, the latest of those that may count: it is 2 days late.",
            "Tests: 9 of 10 points.",
            "Late days: this submission uses 2, so that it loses no points; 0 of yours are left.",
            "Grade: 9 of 10 points.",
        ],
        rules=LATE_DAYS,
        member=Member("ada", group="g", late_days_left=2),
        submission="b",
        late_days=2,
    ),
    Case(
        "in the same group, out of days",
        [work("a", -HOUR, score=4), work("b", 2 * DAY)],
        "4",
        [
            "Submission 1 of 2 (4 Dec 2026, 22:59 CET) counts, the latest of those that may count: it is on time.",
            "Tests: 4 of 10 points.",
            (
                "Submission 2 of 2 (6 Dec 2026, 23:59 CET) does not count: it is 2 days late and needs 2 late "
                "days; you can use 0."
            ),
            "Grade: 4 of 10 points.",
        ],
        rules=LATE_DAYS,
        member=Member("bob", group="g"),
    ),
    Case(
        "superseded",
        [work("a", -2 * HOUR), work("b", -HOUR, outcome=Outcome.SUPERSEDED)],
        "9",
        [
            "Submission 1 of 2 (4 Dec 2026, 21:59 CET) counts, the latest of those that may count: it is on time.",
            "Tests: 9 of 10 points.",
            (
                "Submission 2 of 2 (4 Dec 2026, 22:59 CET) does not count: a later submission replaced it "
                "before it was graded; it uses no attempt."
            ),
            "Grade: 9 of 10 points.",
        ],
    ),
    Case(
        "an infrastructure error at the deadline",
        [work("a", -HOUR), work("b", timedelta(), outcome=Outcome.INFRASTRUCTURE_ERROR)],
        "9",
        [
            "Submission 1 of 2 (4 Dec 2026, 22:59 CET) counts, the latest of those that may count: it is on time.",
            "Tests: 9 of 10 points.",
            (
                "Submission 2 of 2 (4 Dec 2026, 23:59 CET) does not count yet: something failed on our side; it "
                "uses no attempt, and is graded again."
            ),
            "Grade: 9 of 10 points.",
        ],
        unsettled=("b",),
    ),
    Case(
        "only an infrastructure error",
        [work("a", timedelta(), outcome=Outcome.INFRASTRUCTURE_ERROR)],
        None,
        [
            "No submission counts.",
            (
                "Submission 1 of 1 (4 Dec 2026, 23:59 CET) does not count yet: something failed on our side; it "
                "uses no attempt, and is graded again."
            ),
            "Grade: no points yet.",
        ],
        status=GradeStatus.ERROR,
        submission=None,
        unsettled=("a",),
    ),
    Case(
        "a submission that waits",
        [work("a", timedelta(), outcome=None)],
        None,
        [
            "No submission counts.",
            "Submission 1 of 1 (4 Dec 2026, 23:59 CET) does not count yet: it is not graded yet.",
            "Grade: no points yet.",
        ],
        status=GradeStatus.WAITING,
        submission=None,
        unsettled=("a",),
    ),
    Case(
        "no submission",
        [],
        None,
        ["There is no submission.", "Grade: no points."],
        status=GradeStatus.NOT_SUBMITTED,
        submission=None,
    ),
    Case(
        "no submission, and points from staff",
        [],
        "6.5",
        ["There is no submission.", "Adjustment: 0 + 6.5 = 6.5. Reason: on paper", "Grade: 6.5 of 10 points."],
        adjustments=[Adjustment(Decimal("6.5"), "on paper")],
        submission=None,
    ),
    Case(
        "adjustments before the credit",
        [work("a", DAY, score=8)],
        "7",
        [
            "Submission 1 of 1 (5 Dec 2026, 23:59 CET) counts: it is 1 day late.",
            "Tests: 8 of 10 points.",
            "Adjustment: 8 + 1 = 9. Reason: a test was wrong",
            "Adjustment: 9 - 0.25 = 8.75. Reason: style",
            f"Late credit: 8.75 {TIMES} 80 % = 7.",
            "Grade: 7 of 10 points.",
        ],
        adjustments=[Adjustment(Decimal(1), "a test was wrong"), Adjustment(Decimal("-0.25"), "style")],
    ),
    Case(
        "a decision of staff",
        [work("a", DAY, score=8), work("b", DAY + HOUR, outcome=Outcome.INFRASTRUCTURE_ERROR)],
        "7.5",
        [
            "Submission 1 of 2 (5 Dec 2026, 23:59 CET) counts, the latest of those that may count: it is 1 day late.",
            "Tests: 8 of 10 points.",
            f"Late credit: 8 {TIMES} 80 % = 6.4.",
            (
                "Submission 2 of 2 (6 Dec 2026, 00:59 CET) does not count: it is 1 day 1 hour late, and late "
                "submissions get no points."
            ),
            "Decision of the course staff: 7.5 points. Reason: a talk",
            "Grade: 7.5 of 10 points.",
        ],
        decision=Decision(Decimal("7.5"), "a talk"),
    ),
    Case(
        "excused",
        [work("a", -HOUR, outcome=Outcome.INFRASTRUCTURE_ERROR)],
        None,
        [
            "No submission counts.",
            (
                "Submission 1 of 1 (4 Dec 2026, 22:59 CET) does not count yet: something failed on our side; it uses "
                "no attempt, and is graded again."
            ),
            "Decision of the course staff: excused. Reason: abroad",
            "Grade: excused.",
        ],
        decision=Decision(None, "abroad"),
        status=GradeStatus.EXCUSED,
        submission=None,
    ),
    Case(
        "points below 0",
        [work("a", DAY, score=-2)],
        "0",
        [
            "Submission 1 of 1 (5 Dec 2026, 23:59 CET) counts: it is 1 day late.",
            "Tests: -2 of 10 points.",
            "Late credit: 80 % of -2 points changes nothing.",
            "A grade is at least 0 points.",
            "Grade: 0 of 10 points.",
        ],
    ),
    Case(
        "too early, and after the end",
        [work("a", -20 * DAY), work("b", 4 * DAY)],
        None,
        [
            "No submission counts.",
            (
                "Submission 1 of 2 (14 Nov 2026, 23:59 CET) does not count: the assignment opened at 20 Nov "
                "2026, 08:00 CET."
            ),
            "Submission 2 of 2 (8 Dec 2026, 23:59 CET) does not count: the assignment closed at 7 Dec 2026, 23:59 CET.",
            "Grade: no points.",
        ],
        status=GradeStatus.NOT_COUNTED,
        submission=None,
    ),
    Case(
        "the best",
        [work("a", -3 * HOUR, score=9), work("b", -2 * HOUR, score=9), work("c", HOUR, score=10)],
        "9",
        [
            "Submission 1 of 3 (4 Dec 2026, 20:59 CET) counts, the best of those that may count: it is on time.",
            "Tests: 9 of 10 points.",
            "Grade: 9 of 10 points.",
        ],
        rules={"counts": "best"},
    ),
    Case(
        "the latest before the due time",
        [work("a", -HOUR, score=3), work("b", HOUR)],
        "3",
        [
            "Submission 1 of 2 (4 Dec 2026, 22:59 CET) counts, the latest before the due time: it is on time.",
            "Tests: 3 of 10 points.",
            (
                "Submission 2 of 2 (5 Dec 2026, 00:59 CET) does not count: it is 1 hour late, and only "
                "submissions before the due time count."
            ),
            "Grade: 3 of 10 points.",
        ],
        rules={"counts": "latest_before_due"},
    ),
    Case(
        "the chosen one",
        [work("a", -2 * HOUR, score=3), work("b", -HOUR)],
        "3",
        [
            "Submission 1 of 2 (4 Dec 2026, 21:59 CET) counts, as you have chosen: it is on time.",
            "Tests: 3 of 10 points.",
            "Grade: 3 of 10 points.",
        ],
        rules={"counts": "chosen"},
        member=Member("ada", chosen="a"),
    ),
    Case(
        "a chosen one that may not count",
        [work("a", -2 * HOUR), work("b", 3 * DAY)],
        "9",
        [
            (
                "Submission 1 of 2 (4 Dec 2026, 21:59 CET) counts, the latest of those that may count, since "
                "none of these was chosen: it is on time."
            ),
            "Tests: 9 of 10 points.",
            (
                "Submission 2 of 2 (7 Dec 2026, 23:59 CET) does not count: it is 3 days late, and late "
                "submissions get no points."
            ),
            "Grade: 9 of 10 points.",
        ],
        rules={"counts": "chosen"},
        member=Member("ada", chosen="b"),
    ),
    Case(
        "beyond the limit, after an error that uses no attempt",
        [
            work("a", -5 * HOUR, score=1),
            work("b", -4 * HOUR, outcome=Outcome.INFRASTRUCTURE_ERROR),
            work("c", -3 * HOUR, score=2),
            work("d", -2 * HOUR, score=3),
        ],
        "2",
        [
            "Submission 3 of 4 (4 Dec 2026, 20:59 CET) counts, the latest of those that may count: it is on time.",
            "Tests: 2 of 10 points.",
            (
                "Submission 2 of 4 (4 Dec 2026, 19:59 CET) does not count yet: something failed on our side; it "
                "uses no attempt, and is graded again."
            ),
            "Submission 4 of 4 (4 Dec 2026, 21:59 CET) does not count: it is beyond the limit of attempts.",
            "Grade: 2 of 10 points.",
        ],
        rules={"attempts": {"total": 2}},
        submission="c",
        unsettled=("b",),
    ),
    Case(
        "beyond the limit, with a penalty",
        [work("a", -3 * HOUR), work("b", -2 * HOUR), work("c", HOUR)],
        "6.12",
        [
            "Submission 3 of 3 (5 Dec 2026, 00:59 CET) counts, the latest of those that may count: it is 1 hour late.",
            "Tests: 9 of 10 points.",
            f"Late credit: 9 {TIMES} 80 % = 7.2.",
            f"Attempts: 2 submissions beyond the limit: 7.2 {TIMES} 85 % = 6.12.",
            "Grade: 6.12 of 10 points.",
        ],
        rules={"attempts": {"total": 1, "past_limit": "penalty", "penalty_percent": "7.5"}},
        submission="c",
    ),
    Case(
        "a program that did not end",
        [Work("a", DUE - HOUR, Outcome.TIMED_OUT, Decimal(0), TEN, has_report=False)],
        "0",
        [
            "Submission 1 of 1 (4 Dec 2026, 22:59 CET) counts: it is on time.",
            "The program exceeded its time limit: 0 points.",
            "Grade: 0 of 10 points.",
        ],
    ),
    Case(
        "checked without points",
        [work("a", -HOUR, score=None)],
        None,
        [
            "Submission 1 of 1 (4 Dec 2026, 22:59 CET) counts: it is on time.",
            "The submission was checked; it has no points.",
            "Grade: no points.",
        ],
    ),
]


def graded(case: Case, now: datetime = DUE + 30 * DAY) -> Grade:
    policy = Policy.model_validate({**RULES, **case.rules})
    return grade(
        case.member,
        case.works,
        policy=policy,
        points=TEN,
        extensions=case.extensions,
        adjustments=case.adjustments,
        decision=case.decision,
        now=now,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_kind_of_student_has_a_grade_with_its_lines(case: Case) -> None:
    found = graded(case)

    lines = case.lines if case.lines[0].startswith("Due time") else [DUE_LINE, *case.lines]
    assert [line.text for line in found.lines] == lines
    assert found.points == (None if case.points is None else Decimal(case.points))
    assert (found.status, found.submission, found.late_days) == (case.status, case.submission, case.late_days)
    assert found.unsettled == case.unsettled
    assert found.is_final is not bool(case.unsettled)


def test_a_grade_has_the_place_and_the_delay_of_the_submission_that_counts() -> None:
    late, early = (next(case for case in CASES if case.name == name) for name in ("late by a second", "early"))

    assert (graded(late).number, graded(late).delay) == (1, timedelta(minutes=5, seconds=1))
    assert (graded(early).submitted_at, graded(early).delay) == (DUE - 4 * DAY, timedelta())


def test_lines_have_the_points_after_each_step() -> None:
    case = next(case for case in CASES if case.name == "beyond the limit, with a penalty")

    assert [line.points for line in graded(case).lines] == [
        None,
        None,
        Decimal(9),
        Decimal("7.2"),
        Decimal("6.12"),
        Decimal("6.12"),
    ]


def test_no_line_has_the_reason_of_an_extension() -> None:
    texts = [line.text for case in CASES for line in graded(case).lines]

    assert any("extension" in text for text in texts)
    assert not any("illness" in text for text in texts)


def test_a_grade_is_final_after_the_end_with_the_grace() -> None:
    end = DUE + 3 * DAY + timedelta(minutes=5)

    assert graded(CASES[0]).closes_at == end
    assert [graded(CASES[0], now).is_final for now in (end, end + SECOND)] == [False, True]
    assert not grade(Member("ada"), [], policy=Policy(), points=None, now=end).is_final  # it never closes


def test_a_claim_is_charged_without_a_submission() -> None:
    rules = {"late_days": {"per_assignment": 3, "per_course": 5, "spend": "claimed"}}
    claimed = Member("ada", late_days_left=2, late_days_claimed=3)

    assert graded(Case("", [], None, [], rules=rules, member=claimed)).late_days == 2


def test_without_a_policy_the_latest_submission_counts() -> None:
    found = grade(Member("ada"), [work("a", HOUR), work("b", DAY, score=1)], policy=Policy(), points=None, now=DUE)

    assert (found.submission, found.points, found.max) == ("b", Decimal(1), TEN)
    assert found.lines[0].text == (
        "Submission 2 of 2 (5 Dec 2026, 22:59 UTC) counts, the latest of those that may count."
    )


def test_many_submissions_that_do_not_count_have_few_lines() -> None:
    rules = {"attempts": {"total": 1}}
    works = [work(f"{number:03}", -DAY + number * SECOND) for number in range(100)]
    texts = [line.text for line in graded(Case("", works, None, [], rules=rules)).lines]

    assert len(texts) == 25
    assert texts[-2] == "79 more submissions do not count."


def test_arithmetic_is_exact() -> None:
    odd = Decimal("1234567890.123456")
    rules = {
        "deadline": {**RULES["deadline"], "credit": [{"until": "2026-12-05T23:59", "percent": "33.33"}]},
        "attempts": {"total": 1, "past_limit": "penalty", "penalty_percent": "0.01"},
    }
    works = [work("a", -HOUR), Work("b", DUE + HOUR, Outcome.SUCCEEDED, odd, odd)]
    found = graded(Case("", works, None, [], rules=rules))

    assert found.points is not None
    assert Fraction(found.points) == Fraction(odd) * Fraction(3333, 10_000) * Fraction(9999, 10_000)
    assert f"{TIMES} 99.99 % = 411440329.63037007001152." in found.lines[4].text

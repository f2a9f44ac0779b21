"""The part of a report that a student sees: no hidden names, counts and totals."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from broadway.domain.report import Board, Report, ReportedTest, Source, Status, Text, Visibility
from broadway.domain.visibility import Role, Standing, logs_seen, visible

NOW = datetime(2026, 12, 1, tzinfo=UTC)
CLOSED = Standing(NOW, closes_at=NOW)
OPEN = Standing(NOW, closes_at=NOW + timedelta(seconds=1))


def case(name: str, visibility: Visibility | None = None) -> ReportedTest:
    return ReportedTest(
        key=name,
        name=Text(body=name),
        status=Status.PASSED,
        score=Decimal(1),
        max=Decimal(1),
        visibility=visibility,
        extra='"secret"',
    )


def report(*tests: ReportedTest, **more: object) -> Report:
    fields = {"source": Source.GRADESCOPE, "score": 2, "max": 3, "tests": list(tests), "duration": 1.0, **more}
    return Report.model_validate(fields)


def test_staff_see_everything() -> None:
    found = report(case("a", Visibility.HIDDEN), extra='"x"')
    seen = visible(found, Role.STAFF, OPEN)
    assert (seen.report, seen.shows_log) == (found, True)


@pytest.mark.parametrize(
    ("visibility", "standing", "is_seen"),
    [
        (None, OPEN, True),
        (Visibility.VISIBLE, OPEN, True),
        (Visibility.HIDDEN, Standing(NOW, closes_at=NOW, is_published=True), False),
        (Visibility.AFTER_DUE, OPEN, False),
        (Visibility.AFTER_DUE, CLOSED, True),
        (Visibility.AFTER_DUE, Standing(NOW), False),  # the end is not known
        (Visibility.AFTER_PUBLISHED, CLOSED, False),
        (Visibility.AFTER_PUBLISHED, Standing(NOW, is_published=True), True),
    ],
)
def test_a_student_sees_no_total_while_a_test_is_hidden(
    visibility: Visibility | None, standing: Standing, *, is_seen: bool
) -> None:
    seen = visible(report(case("a"), case("secret-name", visibility)), Role.STUDENT, standing).report
    assert [test.key for test in seen.tests] == (["a", "secret-name"] if is_seen else ["a"])
    assert (seen.score, seen.max, seen.duration) == ((2, 3, 1.0) if is_seen else (None, None, None))
    assert ("secret-name" in seen.stored()) is is_seen
    assert "visibility" not in seen.stored().replace("log_visibility", "")


def test_keys_do_not_count_hidden_tests() -> None:
    hidden = case("a", Visibility.HIDDEN)
    seen = visible(report(hidden, case("a").model_copy(update={"key": "a#2"})), Role.STUDENT, OPEN).report
    assert [test.key for test in seen.tests] == ["a"]


def test_data_for_the_autograder_are_for_staff() -> None:
    seen = visible(report(case("a"), extra='"secret"'), Role.STUDENT, OPEN).report
    assert "secret" not in seen.stored()


def test_a_hidden_report_has_no_totals_texts_boards_or_tests() -> None:
    hidden = report(
        case("a"),
        case("b", Visibility.VISIBLE),
        visibility=Visibility.AFTER_DUE,
        messages=[Text(body="m")],
        boards=[Board(name="x")],
    )
    seen = visible(hidden, Role.STUDENT, OPEN).report
    assert [test.key for test in seen.tests] == ["b"]  # its own visibility overrides the report's
    assert (seen.score, seen.messages, seen.boards) == (None, [], [])
    assert visible(hidden, Role.STUDENT, CLOSED).report.messages


@pytest.mark.parametrize(("visibility", "is_seen"), [(Visibility.HIDDEN, False), (Visibility.VISIBLE, True)])
def test_the_log_has_a_visibility_of_its_own(visibility: Visibility, *, is_seen: bool) -> None:
    seen = visible(report(log_visibility=visibility), Role.STUDENT, OPEN)
    assert seen.shows_log is is_seen


def test_the_maximum_is_the_assignments() -> None:
    standing = Standing(NOW, points=Decimal(30))
    seen = visible(report(), Role.STAFF, standing)
    assert (seen.report.score, seen.report.max) == (2, 30)
    assert seen.warning == "the file's maximum is 3, the assignment has 30 points"
    assert visible(report(max=None), Role.STAFF, standing).warning == ""
    fraction = Report(source=Source.PRAIRIELEARN, score=Decimal("0.5"), max=Decimal(1))
    seen = visible(fraction, Role.STUDENT, standing)
    assert (seen.report.score, seen.report.max, seen.warning) == (15, 30, "")


def test_a_submission_that_is_not_gradable_has_no_points_to_warn_about() -> None:
    refused = Report(source=Source.PRAIRIELEARN, gradable=False)
    assert visible(refused, Role.STAFF, Standing(NOW, points=Decimal(30))).warning == ""


@pytest.mark.parametrize(
    ("stages", "open_stage", "seen"),
    [
        ([], None, set()),
        ([{"image": "a"}, {"image": "a", "untrusted": True}, {"image": "a", "untrusted": False}], None, {1}),
        ([{"image": "a", "untrusted": True}, {"image": "a"}], 1, {0, 1}),
        ([{"image": "a", "untrusted": "yes"}], None, set()),
    ],
)
def test_a_student_sees_the_logs_of_untrusted_stages_and_of_one_whose_report_says_so(
    stages: list[dict[str, object]], open_stage: int | None, seen: set[int]
) -> None:
    assert logs_seen(stages, open_stage) == seen

"""Marks: the same points as the report's, for every role."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from broadway.domain.marks import Marks
from broadway.domain.report import Report, ReportedTest, Source, Status, Text, Visibility
from broadway.domain.visibility import Role, Standing, seen_points, visible

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def case(visibility: Visibility | None) -> ReportedTest:
    return ReportedTest(key="a", name=Text(body="a"), status=Status.PASSED, visibility=visibility)


REPORTS = {
    "plain": Report(source=Source.GRADESCOPE, score=Decimal(7), max=Decimal(8)),
    "a hidden test": Report(
        source=Source.GRADESCOPE, score=Decimal(7), max=Decimal(8), tests=[case(None), case(Visibility.HIDDEN)]
    ),
    "a test after the due date": Report(source=Source.JUNIT, score=Decimal(1), tests=[case(Visibility.AFTER_DUE)]),
    "all hidden but a test": Report(
        source=Source.TAP, score=Decimal(1), visibility=Visibility.HIDDEN, tests=[case(Visibility.VISIBLE)]
    ),
    "a fraction": Report(source=Source.PRAIRIELEARN, score=Decimal("0.5"), max=Decimal(1)),
    "not gradable": Report(source=Source.PRAIRIELEARN, gradable=False),
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("closes_at", [None, NOW], ids=["open", "closed"])
@pytest.mark.parametrize("points", [None, Decimal(30)], ids=["no points", "30 points"])
@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_role_sees_the_points_that_it_sees_in_the_report(
    report: Report, points: Decimal | None, closes_at: datetime | None, role: Role
) -> None:
    standing = Standing(NOW, closes_at=closes_at, points=points)
    seen = visible(report, role, standing).report

    assert seen_points(Marks.of(report), role, standing) == (seen.score, seen.max)


def test_an_attempt_without_a_report_has_no_points() -> None:
    assert Marks().out_of(None) == (None, None)
    assert Marks().source is None

"""The part of a report that each role may see. Every interface calls this one function. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from broadway.domain.keys_of_tests import Keys
from broadway.domain.marks import Marks
from broadway.domain.report import Report, Visibility, shown


class Role(StrEnum):
    """The reader of a report: course staff, or the student whose submission it is about."""

    STAFF = "staff"
    STUDENT = "student"


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a student's assignment at a moment.

    ``closes_at`` is the end of that student's late submissions, with extensions; None if it is not known, so that
    nothing is visible *after the due date* yet. ``points`` is the assignment's maximum, or None.
    """

    now: datetime
    closes_at: datetime | None = None
    is_published: bool = False
    points: Decimal | None = None

    def admits(self, visibility: Visibility) -> bool:
        """Return whether the student may see a part of a report with this visibility."""
        match visibility:
            case Visibility.VISIBLE:
                return True
            case Visibility.AFTER_DUE:
                return self.closes_at is not None and self.now >= self.closes_at
            case Visibility.AFTER_PUBLISHED:
                return self.is_published
        return False


@dataclass(frozen=True, slots=True)
class VisibleReport:
    """The part of a report that a role may see.

    ``report`` has the visible tests only, and its totals and texts only if they are visible. ``shows_log``: the log
    of the stage is visible. ``warning`` is for staff: the file's maximum is not the assignment's.
    """

    report: Report
    shows_log: bool
    warning: str = ""


def visible(report: Report, role: Role, standing: Standing) -> VisibleReport:
    """Return the part of a report that a role may see.

    A student sees no total while a test is hidden, and neither the names nor the number of hidden tests. Data that
    only the autograder understands is for staff, and so are the visibilities themselves.
    """
    report, warning = with_points(report, standing.points)
    if role is Role.STAFF:
        return VisibleReport(report, shows_log=True, warning=warning)
    admits = standing.admits
    tests = [test for test in report.tests if admits(test.visibility or report.visibility)]
    keys = Keys()  # those of the report may have numbers that count hidden tests
    is_open, is_complete = admits(report.visibility), all(map(admits, Marks.of(report).visibilities))
    seen = report.model_copy(
        update={
            "tests": [
                test.model_copy(update={"key": keys.of(test.group, test.name.body), "visibility": None, "extra": None})
                for test in tests
            ],
            "visibility": Visibility.VISIBLE,
            "log_visibility": Visibility.VISIBLE if admits(report.log_visibility) else Visibility.HIDDEN,
            "extra": None,
            **({} if is_complete else {"score": None, "max": None, "duration": None}),
            **({} if is_open else {"messages": [], "boards": [], "images": []}),
        }
    )
    return VisibleReport(seen, shows_log=admits(report.log_visibility))


def logs_seen(stages: Sequence[Mapping[str, Any]], open_stage: int | None = None) -> frozenset[int]:
    """Return the indexes of the stages, as posted, whose logs the student of their job may see.

    These are the untrusted ones, which hold no secrets of the course, and ``open_stage``, whose report shows its log to
    the student. A trusted stage may print answers, so its log is not shown before it has a report that says so.
    """
    untrusted = {index for index, stage in enumerate(stages) if stage.get("untrusted") is True}
    return frozenset(untrusted if open_stage is None else untrusted | {open_stage})


def seen_points(marks: Marks, role: Role, standing: Standing) -> tuple[Decimal | None, Decimal | None]:
    """Return the score and the maximum that a role may see: those that ``visible`` leaves in the report."""
    if role is Role.STUDENT and not all(map(standing.admits, marks.visibilities)):
        return None, None
    return marks.out_of(standing.points)


def with_points(report: Report, points: Decimal | None) -> tuple[Report, str]:
    """Return a report whose maximum is the assignment's, and a warning if the file has another one.

    See ``Marks.out_of`` for the score.
    """
    if points is None or report.max == points:
        return report, ""
    marks = Marks.of(report)
    score, limit = marks.out_of(points)
    warning = (
        ""
        if report.max is None or marks.is_fraction
        else f"the file's maximum is {shown(report.max)}, the assignment has {shown(points)} points"
    )
    return report.model_copy(update={"score": score, "max": limit}), warning

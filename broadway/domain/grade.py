"""Grades: one pure function from a student's submissions, the assignment's policy and its extensions to a grade.

The order of the submissions does not matter. An extension never makes a grade worse: the grade is computed with each
extension and without any, and the best one counts. A result that is not the student's, such as an infrastructure
error, neither counts nor uses an attempt. All arithmetic is exact.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from enum import StrEnum

from broadway.domain.counting import (
    EXACT,
    Adjustment,
    Decision,
    Obstacle,
    candidates,
    counted,
    late_days_at_most,
)
from broadway.domain.extension import Extension, Member
from broadway.domain.grade_lines import Line, Reading, lines_of
from broadway.domain.policy import Policy, Spend
from broadway.domain.schedule import Schedule, last_end, schedules_of
from broadway.domain.work import IN_ORDER, Work

_NO_POINTS = Decimal(-1)  # less than any grade


class GradeStatus(StrEnum):
    """The state of a grade."""

    GRADED = "graded"
    WAITING = "waiting"  # nothing counts yet, and a submission is still to be graded
    ERROR = "error"  # nothing counts yet, and the infrastructure failed with a submission
    NOT_COUNTED = "not_counted"  # there are submissions, and none may count
    NOT_SUBMITTED = "not_submitted"
    EXCUSED = "excused"


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of one student for one assignment.

    ``points`` is None if there is nothing that counts, or if it was checked without points. ``submission`` is the id of
    the one that counts, and ``number`` its place among all, from 1. ``delay`` is the time since the due time, grace or
    not, and ``days_late`` are the begun days by which it is late. ``late_days`` are charged to the student.
    ``unsettled`` has the ids of submissions that may change the grade when their results arrive. ``closes_at`` is the
    end of the last submissions of this student, with the grace; None if there is none. A final grade can change by
    reruns, extensions and adjustments only.
    """

    student: str
    status: GradeStatus
    points: Decimal | None = None
    max: Decimal | None = None
    submission: str | None = None
    number: int | None = None
    submitted_at: datetime | None = None
    delay: timedelta | None = None
    days_late: int = 0
    late_days: int = 0
    unsettled: tuple[str, ...] = ()
    closes_at: datetime | None = None
    is_final: bool = False
    lines: tuple[Line, ...] = ()


def grade(
    member: Member,
    works: Sequence[Work],
    *,
    policy: Policy,
    points: Decimal | None,
    extensions: Iterable[Extension] = (),
    adjustments: Sequence[Adjustment] = (),
    decision: Decision | None = None,
    now: datetime,
) -> Grade:
    """Return the grade of a student.

    Args:
        member: The student.
        works: The submissions of the student and the student's group, in any order, with different ids.
        policy: The assignment's policy.
        points: The assignment's points, or None.
        extensions: The extensions of the assignment, in any order. Those of others have no effect; for a class,
            ``by_target`` and ``for_member`` find the student's own faster.
        adjustments: Points that staff add or take off, in the order of the lines.
        decision: The points that staff set instead of the computed ones, or None.
        now: The present time, which decides only if the grade is final.
    """
    schedules = schedules_of(policy, extensions, member)
    found = [_under(each, member, works, policy, points, adjustments) for each in schedules]
    best = max(found, key=_rank)  # of equal ones the first, which is the one with the last due time
    if best.schedule.extension is None and len(schedules) > 1:
        best = replace(best, has_useless_extension=True)
    unsettled: set[str] = set()
    if decision is None:
        unsettled = {each.work.id for reading in found for each in reading.found if each.is_unsettled}
    else:
        best = replace(best, points=decision.points, decision=decision)
    ordered = tuple(work.id for work in sorted(works, key=IN_ORDER) if work.id in unsettled) if unsettled else ()
    closes_at = last_end(schedules)
    return _grade(best, ordered, closes_at, is_final=not ordered and closes_at is not None and now > closes_at)


def _under(
    schedule: Schedule,
    member: Member,
    works: Sequence[Work],
    policy: Policy,
    points: Decimal | None,
    adjustments: Sequence[Adjustment],
) -> Reading:
    """Return the grade under one schedule."""
    found = candidates(policy, schedule, member, works)
    counts = counted(policy, member, found, adjustments)
    if counts is not None:
        result = counts.points(adjustments)
    elif adjustments:
        with localcontext(prec=EXACT):
            result = max(Decimal(0), sum((each.points for each in adjustments), Decimal(0)))
    else:
        result = None
    bound = counts.work.max if counts and points is None else points
    return Reading(policy, schedule, member, found, counts, adjustments, result, bound)


def _rank(reading: Reading) -> tuple[Decimal, bool]:
    return _NO_POINTS if reading.points is None else reading.points, reading.counted is not None


def _grade(reading: Reading, unsettled: tuple[str, ...], closes_at: datetime | None, *, is_final: bool) -> Grade:
    counts = reading.counted
    rule = reading.policy.late_days
    is_claimed = rule is not None and rule.spend is Spend.CLAIMED
    used = counts.late_days if counts else 0
    return Grade(
        student=reading.member.student,
        status=_status(reading),
        points=reading.points,
        max=reading.max,
        submission=counts.work.id if counts else None,
        number=counts.number if counts else None,
        submitted_at=counts.work.at if counts else None,
        delay=reading.schedule.delay(counts.work.at) if counts else None,
        days_late=counts.days_late if counts else 0,
        late_days=late_days_at_most(reading.policy, reading.member) if is_claimed else used,
        unsettled=unsettled,
        closes_at=closes_at,
        is_final=is_final,
        lines=lines_of(reading),
    )


def _status(reading: Reading) -> GradeStatus:
    if reading.decision is not None and reading.decision.points is None:
        return GradeStatus.EXCUSED
    if reading.counted is not None or reading.points is not None:
        return GradeStatus.GRADED
    obstacles = {each.obstacle for each in reading.found}
    if Obstacle.ERROR in obstacles:
        return GradeStatus.ERROR
    if Obstacle.WAITING in obstacles:
        return GradeStatus.WAITING
    return GradeStatus.NOT_COUNTED if reading.found else GradeStatus.NOT_SUBMITTED

"""The changes of a sheet against the grades of the moment: those to make, those made already, and obstacles. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from broadway.domain.assignment_settings import MAX_POINTS
from broadway.domain.sheets.adjusting import Adjustment
from broadway.domain.sheets.entries import Entry, EntryStatus, LeftOut
from broadway.domain.sheets.numbers import rounded, written

PLACES = 4  # of the points that staff give


@dataclass(frozen=True, slots=True)
class Plan:
    """The adjustments of a sheet that ``apply`` would make, the number of those that are made, and the obstacles."""

    adjustments: Sequence[Adjustment]
    done: int
    obstacles: Sequence[LeftOut]


def plan(adjustments: Sequence[Adjustment], present: Sequence[Entry], *, is_of_draft: bool) -> Plan:
    """Compare the adjustments of a sheet with the draft of the moment.

    A grade that has changed since the sheet was made is an obstacle: the person who typed the score has not seen it.
    With ``is_of_draft`` the sheet was compared with that draft itself, so only the graded jobs can tell.
    """
    of_student = {grade.student: grade for grade in present}
    made, done, obstacles = [], 0, []
    for each in adjustments:
        grade = of_student.get(each.student)
        if grade is not None and _is_done(each, grade):
            done += 1
        elif problem := _obstacle(each, grade, is_of_draft=is_of_draft):
            obstacles.append(LeftOut(each.student, f"row {each.row}: {problem}"))
        else:
            made.append(each)
    return Plan(made, done, obstacles)


def _is_done(adjustment: Adjustment, grade: Entry) -> bool:
    if adjustment.excused:
        return grade.status is EntryStatus.EXCUSED
    return adjustment.after is not None and adjustment.after == grade.score


def _is_grade(points: Decimal) -> bool:
    return 0 <= points <= MAX_POINTS and points == rounded(points, PLACES)


def _obstacle(adjustment: Adjustment, grade: Entry | None, *, is_of_draft: bool) -> str:
    """Return the reason for which an adjustment must not be made, or an empty text."""
    if adjustment.after is None and not adjustment.excused:
        return "the score is empty; write a number, or excused into the column status"
    if adjustment.after is not None and not _is_grade(adjustment.after):
        return f"expected 0 to {MAX_POINTS} with at most {PLACES} decimals, not {written(adjustment.after)}"
    if grade is None:
        return "the student has no grade any more; export the grades again"
    if grade.score != adjustment.before:
        now = grade.status.value if grade.score is None else written(grade.score)
        return f"the grade is {now} now; export the grades again"
    if is_of_draft and adjustment.job is not None and adjustment.job != grade.job:
        return "another submission counts now; export the grades again"
    return ""

"""The changes in a sheet of grades, made as staff's decisions."""

from collections.abc import Sequence
from dataclasses import dataclass

from broadway.domain.grade_book import AdjustmentKind, StoredAdjustment
from broadway.domain.sheets.adjusting import Adjustment
from broadway.domain.sheets.applying import Plan
from broadway.ingest.commands.grade_adjustments import MAX_AT_ONCE, AdjustmentOrder, GradeAdjusting

_NAMED = 20  # students in a text


class ImportRefusedError(ValueError):
    """No change of a sheet is made, since one cannot be; the text names the students and the remedy."""


@dataclass(frozen=True, slots=True)
class GradeImports:
    """Changes of grades that come from sheets."""

    adjusting: GradeAdjusting

    async def apply(
        self, course: str, assignment: str, plan: Plan, *, by: str, reason: str = ""
    ) -> list[StoredAdjustment]:
        """Store a decision for each change. A later plan of the same sheet does not have them.

        Args:
            course: The course.
            assignment: The assignment.
            plan: The changes.
            by: The name of the person.
            reason: The reason for changes without a reason of their own.

        Raises:
            ImportRefusedError: A change must not be made, or has no reason, or there are too many.
            RejectedError: A student or the assignment has too many adjustments; nothing is stored.
        """
        _check(plan, reason.strip())
        if not plan.adjustments:
            return []
        orders = [_order(each, reason) for each in plan.adjustments]
        return await self.adjusting.adjust(course, assignment, orders, by=by)


def _check(plan: Plan, reason: str) -> None:
    if plan.obstacles:
        named = [f"{each.student[:200]}: {each.reason}" for each in plan.obstacles]
        raise ImportRefusedError(f"nothing is changed; {_some(named)}")
    if len(plan.adjustments) > MAX_AT_ONCE:
        raise ImportRefusedError(
            f"the sheet has {len(plan.adjustments)} changes; expected at most {MAX_AT_ONCE} at a time: split the file"
        )
    silent = [f"{each.student[:200]} (row {each.row})" for each in plan.adjustments if not (each.reason or reason)]
    if silent:
        raise ImportRefusedError(f"nothing is changed; give a reason, which students read, for {_some(silent)}")


def _some(named: Sequence[str]) -> str:
    more = len(named) - _NAMED
    return "; ".join(named[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _order(adjustment: Adjustment, reason: str) -> AdjustmentOrder:
    return AdjustmentOrder(
        student=adjustment.student,
        kind=AdjustmentKind.EXCUSED if adjustment.excused else AdjustmentKind.FINAL,
        points=adjustment.after,
        reason=adjustment.reason or reason,
    )

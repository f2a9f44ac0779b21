"""The changes in a sheet of grades, made as staff's decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex

from broadway.domain.grade_book import AdjustmentKind, StoredAdjustment
from broadway.domain.sheets.adjusting import Adjustment
from broadway.domain.sheets.applying import Plan
from broadway.ingest.commands.grades import AdjustmentOrder, GradeChanges

MOST = 2000  # changes of one sheet
_NAMED = 20  # students in a text


class ImportRefusedError(ValueError):
    """The changes of a sheet cannot be made, and none is; the text names the students and the remedy."""


@dataclass(frozen=True, slots=True)
class GradeImports:
    """Changes of grades that come from sheets."""

    changes: GradeChanges

    async def apply(
        self, course: str, assignment: str, plan: Plan, *, by: str, reason: str = "", key: str | None = None
    ) -> list[StoredAdjustment]:
        """Store a decision for each change. A repetition finds those that an interrupted call has stored.

        Args:
            course: The course.
            assignment: The assignment.
            plan: The changes.
            by: The name of the person.
            reason: The reason for changes whose rows have none.
            key: The request's idempotency key, or None.

        Raises:
            ImportRefusedError: A change is in the way of another one, or has no reason, or there are too many.
        """
        _check(plan, reason)
        key = key or token_hex(16)
        return [
            await self.changes.adjust(course, assignment, _order(each, by=by, reason=reason, key=key))
            for each in plan.adjustments
        ]


def _check(plan: Plan, reason: str) -> None:
    if plan.obstacles:
        named = [f"{each.student[:200]}: {each.reason}" for each in plan.obstacles]
        raise ImportRefusedError(f"nothing is changed; {_some(named)}")
    if len(plan.adjustments) > MOST:
        raise ImportRefusedError(
            f"the sheet has {len(plan.adjustments)} changes; expected at most {MOST} at a time: split the file"
        )
    silent = [f"{each.student[:200]} (row {each.row})" for each in plan.adjustments if not (each.reason or reason)]
    if silent:
        raise ImportRefusedError(f"nothing is changed; give a reason, which students read, for {_some(silent)}")


def _some(named: Sequence[str]) -> str:
    more = len(named) - _NAMED
    return "; ".join(named[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _order(adjustment: Adjustment, *, by: str, reason: str, key: str) -> AdjustmentOrder:
    return AdjustmentOrder(
        adjustment.student,
        AdjustmentKind.EXCUSED if adjustment.excused else AdjustmentKind.FINAL,
        adjustment.after,
        adjustment.reason or reason,
        by=by,
        key=f"{key}:{adjustment.student}",
    )

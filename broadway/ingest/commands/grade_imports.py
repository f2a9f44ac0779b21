"""The changes in a sheet of grades as decisions of staff."""

from collections.abc import Sequence

from broadway.domain.grade_adjustment import AdjustmentOrder
from broadway.domain.grade_book import AdjustmentKind
from broadway.domain.sheets.adjusting import Adjustment
from broadway.domain.sheets.applying import Plan
from broadway.ingest.commands.grade_adjustments import MAX_AT_ONCE

_NAMED = 20  # students in a text


class ImportRefusedError(ValueError):
    """No change of a sheet is made, since one cannot be; the text names the students and the remedy."""


def decisions_of(plan: Plan, *, reason: str = "") -> list[AdjustmentOrder]:
    """Return a decision for each change of a sheet. A plan that is made after these decisions has no changes.

    Args:
        plan: The changes.
        reason: The reason for changes without a reason of their own.

    Raises:
        ImportRefusedError: A change must not be made, or has no reason, or there are too many.
    """
    _check(plan, reason.strip())
    return [_order(each, reason) for each in plan.adjustments]


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

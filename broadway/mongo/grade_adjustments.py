"""The collection ``grade_adjustment``: changes of staff to grades, and their withdrawals. Both are only inserted."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from broadway.domain.grade_book import AdjustmentKind, StoredAdjustment
from broadway.mongo.collection import Collection, Document, Documents, below, insert_each

_WITHDRAWN = "/withdrawn"


class GradeAdjustments:
    """Adjustments, with the ids ``<course>/<assignment>/<adjustment>``; those of withdrawals have one part more."""

    def __init__(self, collection: Collection) -> None:
        self._adjustments = Documents(collection)

    async def of_assignment(self, course: str, assignment: str) -> list[StoredAdjustment]:
        """Return all adjustments, withdrawn ones too, in the order in which they were made."""
        stored = await self._adjustments.find(below(f"{course}/{assignment}"))
        found = {str(each["_id"]): each for each in stored}
        made = [
            _adjustment(identity, each, found.get(f"{identity}{_WITHDRAWN}"))
            for identity, each in found.items()
            if not identity.endswith(_WITHDRAWN)
        ]
        return sorted(made, key=lambda each: (each.at, each.id))

    async def add(self, course: str, assignment: str, adjustments: Sequence[StoredAdjustment]) -> list[bool]:
        """Store adjustments; return False for each whose id is taken."""
        return await insert_each(self._adjustments, [_document(course, assignment, each) for each in adjustments])

    async def withdraw(self, course: str, assignment: str, adjustment: StoredAdjustment) -> bool:
        """Store the withdrawal that an adjustment has; return False if it is withdrawn already."""
        document: Document = {
            "_id": f"{course}/{assignment}/{adjustment.id}{_WITHDRAWN}",
            "at": adjustment.withdrawn_at,
            "by": adjustment.withdrawn_by,
            "reason": adjustment.withdrawn_reason,
        }
        return (await insert_each(self._adjustments, [document]))[0]


def _document(course: str, assignment: str, adjustment: StoredAdjustment) -> Document:
    return {
        "_id": f"{course}/{assignment}/{adjustment.id}",
        "student": adjustment.student,
        "kind": adjustment.kind.value,
        "points": None if adjustment.points is None else str(adjustment.points),
        "reason": adjustment.reason,
        "at": adjustment.at,
        "by": adjustment.by,
    }


def _adjustment(identity: str, document: Document, withdrawal: Document | None) -> StoredAdjustment:
    points = document.get("points")
    made = StoredAdjustment(
        id=identity.rpartition("/")[2],
        student=document["student"],
        kind=AdjustmentKind(document["kind"]),
        points=None if points is None else Decimal(points),
        reason=document.get("reason", ""),
        at=document["at"],
        by=document.get("by", ""),
    )
    if withdrawal is None:
        return made
    return replace(
        made,
        withdrawn_at=withdrawal["at"],
        withdrawn_by=withdrawal.get("by", ""),
        withdrawn_reason=withdrawal.get("reason", ""),
    )

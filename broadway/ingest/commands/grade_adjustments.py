"""Adjustments of grades by staff: points to add, a final number, or excused; and their withdrawal."""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Protocol

import structlog

from broadway.domain.grade_adjustment import AdjustmentOrder
from broadway.domain.grade_book import StoredAdjustment
from broadway.ingest.commands.limits import RejectedError
from broadway.ingest.commands.submit import KeyReusedError
from broadway.lifecycle.grade_books import AdjustmentQueries
from broadway.runtime.clock import now

log = structlog.get_logger(__name__)

MAX_AT_ONCE = 5000  # adjustments in a request
MAX_OF_STUDENT = 50  # adjustments in force, each of which is a line of the grade
MAX_OF_ASSIGNMENT = 50_000  # withdrawn ones, too


class NoAdjustmentError(LookupError):
    """The assignment has no such adjustment in force."""


class GradedStudents(Protocol):
    """The students who have a grade in the drafts of assignments."""

    async def unknown(self, course: str, assignment: str, students: Collection[str]) -> Sequence[str]:
        """Return those of some names, in order, for which the draft has no grade."""


class Adjustments(AdjustmentQueries, Protocol):
    """Stored adjustments of assignments. They are only inserted."""

    async def add(self, course: str, assignment: str, adjustments: Sequence[StoredAdjustment]) -> list[bool]:
        """Store adjustments; return False for each whose id is taken."""

    async def withdraw(self, course: str, assignment: str, adjustment: StoredAdjustment) -> bool:
        """Store the withdrawal that an adjustment has; return False if it is withdrawn already."""


@dataclass(frozen=True, slots=True)
class GradeAdjusting:
    """Adjusts the grades of any course. Students see a change with the next publication."""

    adjustments: Adjustments
    students: GradedStudents

    async def adjust(
        self, course: str, assignment: str, orders: Sequence[AdjustmentOrder], *, by: str, key: str | None = None
    ) -> list[StoredAdjustment]:
        """Store adjustments in the order given; return them. A repetition with the same key changes nothing.

        Raises:
            RejectedError: A student or the assignment has too many, or the draft has no grade of a student; nothing is
                stored.
            KeyReusedError: Another request had that key.
        """
        stored = {each.id: each for each in await self.adjustments.of_assignment(course, assignment)}
        name = token_hex(8) if key is None else hashlib.sha256(f"adjust\0{key}".encode()).hexdigest()[:16]
        at = now()
        made = [
            StoredAdjustment(f"{name}{index:04x}", each.student, each.kind, each.points, each.reason, at, by)
            for index, each in enumerate(orders)
        ]
        if any(each.id in stored and not _is_same(each, stored[each.id]) for each in made):
            raise KeyReusedError("Idempotency-Key: other adjustments had this key")
        new = [each for each in made if each.id not in stored]
        _check(list(stored.values()), new)
        if unknown := await self.students.unknown(course, assignment, {each.student for each in new}):
            raise RejectedError(
                f"student: {unknown[0]} is not a student in the roster of {assignment}, and has submitted nothing"
            )
        if new:
            await self.adjustments.add(course, assignment, new)
            log.info("grades adjusted", course=course, assignment=assignment, adjustments=len(new), by=by)
        return [stored.get(each.id, each) for each in made]

    async def withdraw(
        self, course: str, assignment: str, identity: str, *, by: str, reason: str = ""
    ) -> StoredAdjustment:
        """Withdraw an adjustment.

        Raises:
            NoAdjustmentError: There is no such adjustment, or it is withdrawn.
        """
        known = await self.adjustments.of_assignment(course, assignment)
        found = next((each for each in known if each.id == identity and each.is_in_force), None)
        if found is None:
            raise NoAdjustmentError("this assignment has no such adjustment in force")
        withdrawn = replace(found, withdrawn_at=now(), withdrawn_by=by, withdrawn_reason=reason)
        if not await self.adjustments.withdraw(course, assignment, withdrawn):
            raise NoAdjustmentError("this adjustment is withdrawn already")
        log.info("adjustment withdrawn", course=course, assignment=assignment, adjustment=identity, by=by)
        return withdrawn


def _is_same(made: StoredAdjustment, stored: StoredAdjustment) -> bool:
    return (made.student, made.kind, made.points, made.reason) == (
        stored.student,
        stored.kind,
        stored.points,
        stored.reason,
    )


def _check(stored: Sequence[StoredAdjustment], new: Sequence[StoredAdjustment]) -> None:
    """Return if new adjustments do not exceed a limit.

    Raises:
        RejectedError: They do.
    """
    if len(stored) + len(new) > MAX_OF_ASSIGNMENT:
        raise RejectedError(f"an assignment can have {MAX_OF_ASSIGNMENT} adjustments")
    changed = {each.student for each in new}
    in_force = Counter(each.student for each in (*stored, *new) if each.is_in_force and each.student in changed)
    if too_many := next((student for student, count in in_force.items() if count > MAX_OF_STUDENT), None):
        raise RejectedError(f"{too_many} would have more than {MAX_OF_STUDENT} adjustments in force; withdraw some")

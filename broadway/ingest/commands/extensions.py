"""Extensions of assignments: add one, or withdraw that of a target. Stored extensions never change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from broadway.domain.extension import MAX_EXTENSIONS, Extension, ExtensionOrder, Target, by_target
from broadway.domain.policy import Policy
from broadway.domain.roster import Roster
from broadway.domain.schedule import useless
from broadway.ingest.commands.limits import QuotaError
from broadway.ingest.commands.start import NO_SUCH_ASSIGNMENT, NoAssignmentError
from broadway.lifecycle.stores import AssignmentConfigs, AssignmentRosters, CurrentSettings
from broadway.runtime.clock import now

log = structlog.get_logger(__name__)

TRIES = 20  # of one extension, while others are added


class UnknownTargetError(ValueError):
    """The roster has no such student, group or label."""


class NoExtensionError(LookupError):
    """The target has no extension in force."""


class ExtensionsChangedError(Exception):
    """Others add extensions all the time."""


class StoredExtensions(Protocol):
    """Stored extensions. They are only inserted."""

    async def of_assignment(self, course: str, assignment: str) -> Sequence[Extension]:
        """Return all extensions of an assignment, in the order in which they were added."""

    async def add(self, course: str, assignment: str, extension: Extension, *, number: int) -> bool:
        """Store an extension with the next number, from 1; return False if another one has its number."""


@dataclass(frozen=True, slots=True)
class Added:
    """A stored extension, whether this call stored it, and the reason why it has no effect, or empty."""

    extension: Extension
    is_new: bool
    warning: str = ""


@dataclass(frozen=True, slots=True)
class ExtensionChanges:
    """Adds extensions."""

    assignments: AssignmentConfigs
    settings: CurrentSettings
    rosters: AssignmentRosters
    extensions: StoredExtensions

    async def add(self, course: str, assignment: str, order: ExtensionOrder, *, by: str) -> Added:
        """Store an extension; from then on it replaces an earlier one of its target.

        An order that equals the target's present one is not stored again, so that a call may be repeated.

        Raises:
            NoAssignmentError: The course has no such assignment.
            UnknownTargetError: The roster has no such target.
            QuotaError: The assignment has as many extensions as it may have.
            ExtensionsChangedError: Others add extensions all the time.
        """
        if await self.assignments.get(course, assignment) is None:
            raise NoAssignmentError(NO_SUCH_ASSIGNMENT)
        await self.check(course, assignment, order)
        policy = (await self.settings.current(course, assignment)).settings.policy
        return await self._insert(course, assignment, order, policy, by=by)

    async def check(self, course: str, assignment: str, order: ExtensionOrder) -> None:
        """Return if an extension has a target in the roster.

        Raises:
            UnknownTargetError: It has not.
        """
        check_target(order, await self.rosters.get(course, assignment), assignment)

    async def withdraw(
        self, course: str, assignment: str, target: Target, name: str, *, reason: str, by: str
    ) -> Extension:
        """Withdraw the extension of a target: the assignment's own times hold again.

        Raises:
            NoExtensionError: The target has no extension.
            QuotaError: As ``add``.
            ExtensionsChangedError: As ``add``.
        """
        present = by_target(await self.extensions.of_assignment(course, assignment)).get((target, name))
        if present is None or present.order.is_empty:
            raise NoExtensionError(f"there is no extension for {target} {name}")
        order = ExtensionOrder(target=target, name=name, reason=reason)
        return (await self._insert(course, assignment, order, Policy(), by=by)).extension

    async def _insert(self, course: str, assignment: str, order: ExtensionOrder, policy: Policy, *, by: str) -> Added:
        for _ in range(TRIES):
            known = await self.extensions.of_assignment(course, assignment)
            present = by_target(known).get((order.target, order.name))
            if present and present.order == order:
                return Added(present, is_new=False, warning=useless(policy, present) or "")
            if len(known) >= MAX_EXTENSIONS:
                raise QuotaError(f"{assignment} has {len(known)} extensions, which is the most that are kept")
            number = len(known) + 1
            extension = Extension(f"{number:09}", order, now(), by)
            if await self.extensions.add(course, assignment, extension, number=number):
                log.info(
                    "extension added", course=course, assignment=assignment, number=number, withdraws=order.is_empty
                )
                return Added(extension, is_new=True, warning=useless(policy, extension) or "")
        raise ExtensionsChangedError("the extensions are being changed by others; try again")


def check_target(order: ExtensionOrder, roster: Roster | None, assignment: str) -> None:
    """Return if the target of an extension is in a roster, or there is no roster.

    Raises:
        UnknownTargetError: It is not.
    """
    if roster is None:
        return
    match order.target:
        case Target.STUDENT:
            is_known = roster.of_person(order.name) is not None
        case Target.GROUP:
            entry = roster.of_student(order.name)
            is_known = entry is not None and bool(entry.members)
        case Target.LABEL:
            is_known = any(order.name in entry.labels for entry in roster.students)
    if not is_known:
        raise UnknownTargetError(f"name: the roster of {assignment} has no {order.target} {order.name}")

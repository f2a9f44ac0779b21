"""Changing an assignment's roster and a course's hooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broadway.domain.assignment_settings import AssignmentSettings
from broadway.domain.course import Course
from broadway.domain.roster import Roster, UnusableEnvError, UnusableRosterError
from broadway.domain.webhook import Hook, HookFormat
from broadway.ingest.commands.limits import InvalidEnvError, Limits, QuotaError, RejectedError, check_id
from broadway.lifecycle.stores import AssignmentRosters, CurrentSettings


class HookRegistry(Protocol):
    """Hooks, which can be replaced and removed."""

    async def count(self, course: str, *, without: str) -> int:
        """Return the number of a course's hooks of other names."""

    async def put(self, hook: Hook) -> None:
        """Store a hook; it replaces an earlier one of the same name completely."""

    async def of_course(self, course: str) -> Sequence[Hook]:
        """Return all hooks of a course."""

    async def delete(self, course: str, name: str) -> bool:
        """Remove a hook; return whether there was one."""


class RosterRegistry(AssignmentRosters, Protocol):
    """Rosters, which can be replaced."""

    async def put(self, course: str, assignment: str, roster: Roster) -> None:
        """Store a roster; it replaces an earlier one completely.

        Raises:
            UnstorableError: The roster is too large; the earlier one stays.
        """


@dataclass(frozen=True, slots=True)
class HookSettings:
    """Stores hooks and rosters."""

    hooks: HookRegistry
    rosters: RosterRegistry
    limits: Limits
    settings: CurrentSettings

    async def put(self, hook: Hook, course: Course) -> None:
        """Create or replace a hook of a course.

        Raises:
            QuotaError: The course has as many hooks as it may have.
            RejectedError: No submission to it could match the assignment's roster.
        """
        most = self.limits.of_course(course).hooks
        others = await self.hooks.count(course.id, without=hook.name)
        if others >= most:
            raise QuotaError(f"hook: {course.id} has {others} hooks, {most} are allowed")
        if roster := await self.rosters.get(hook.course, hook.config.assignment):
            _check_pair(hook, roster)
        await self.hooks.put(hook)

    async def delete(self, hook: Hook) -> None:
        """Remove a hook. Its deliveries stay, and their runs go on."""
        await self.hooks.delete(hook.course, hook.name)

    async def put_roster(self, course: Course, assignment: str, roster: Roster) -> None:
        """Replace the roster of a course's assignment.

        Raises:
            InvalidEnvError: No program can have the variables of an entry, or it sets one of Broadway's own.
            QuotaError: The roster has more students than a run may have.
            RejectedError: An entry, or the whole roster, matches no submission to one of the course's hooks; or a group
                is larger than the assignment's policy allows.
            UnstorableError: The roster is too large for the store; the earlier one stays.
        """
        check_id("assignment", assignment)
        most = self.limits.of_course(course).students
        if len(roster.students) > most:
            raise QuotaError(f"students: the roster has {len(roster.students)} students, {most} are allowed")
        _check_entries(roster)
        check_groups(roster, (await self.settings.current(course.id, assignment)).settings)
        for hook in await self.hooks.of_course(course.id):
            if hook.config.assignment == assignment:
                _check_pair(hook, roster)
        await self.rosters.put(course.id, assignment, roster)


def _check_entries(roster: Roster) -> None:
    """Return if the entries of a new roster may be stored.

    Raises:
        InvalidEnvError: No program can have the variables of an entry, or it sets one of Broadway's own.
        RejectedError: An entry matches no submission.
    """
    try:
        roster.check_entries()
    except UnusableEnvError as error:
        raise InvalidEnvError(str(error)) from error
    except UnusableRosterError as error:
        raise RejectedError(str(error)) from error


def check_groups(roster: Roster, settings: AssignmentSettings) -> None:
    """Return if no group is larger than an assignment's policy allows.

    Raises:
        RejectedError: One is.
    """
    groups = settings.policy.groups
    try:
        roster.check_groups(groups.max if groups else None)
    except UnusableRosterError as error:
        raise RejectedError(str(error)) from error


def _check_pair(hook: Hook, roster: Roster) -> None:
    """Return if a submission to a hook can match an entry of its assignment's roster.

    Raises:
        RejectedError: None can.
    """
    if hook.config.format is not HookFormat.GITHUB:
        return
    try:
        roster.check_repositories(hook.name)
    except UnusableRosterError as error:
        raise RejectedError(str(error)) from error

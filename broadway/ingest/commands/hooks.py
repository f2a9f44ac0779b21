"""Changing an assignment's roster and a course's hooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broadway.domain.roster import Roster, UnusableRosterError
from broadway.domain.webhook import Hook, HookFormat
from broadway.ingest.commands.limits import RejectedError, check_env
from broadway.lifecycle.stores import AssignmentRosters


class HookRegistry(Protocol):
    """Hooks, which can be replaced and removed."""

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

    async def put(self, hook: Hook) -> None:
        """Create or replace a hook.

        Raises:
            RejectedError: No submission to it could match the assignment's roster.
        """
        if roster := await self.rosters.get(hook.course, hook.config.assignment):
            _check_pair(hook, roster)
        await self.hooks.put(hook)

    async def delete(self, hook: Hook) -> None:
        """Remove a hook. Its deliveries stay, and their runs go on."""
        await self.hooks.delete(hook.course, hook.name)

    async def put_roster(self, course: str, assignment: str, roster: Roster) -> None:
        """Replace an assignment's roster.

        Raises:
            InvalidEnvError: No program can have the variables of an entry.
            RejectedError: An entry, or the whole roster, matches no submission to one of the course's hooks.
            UnstorableError: The roster is too large for the store; the earlier one stays.
        """
        check_roster(roster)
        for hook in await self.hooks.of_course(course):
            if hook.config.assignment == assignment:
                _check_pair(hook, roster)
        await self.rosters.put(course, assignment, roster)


def check_roster(roster: Roster) -> None:
    """Return if a new roster may be stored.

    Raises:
        InvalidEnvError: No program can have the variables of an entry.
        RejectedError: An entry matches no submission.
    """
    for index, entry in enumerate(roster.students):
        check_env(f"students.{index}.env", entry.env)
    try:
        roster.check_entries()
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

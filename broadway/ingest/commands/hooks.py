"""Changing an assignment's roster and a course's hooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broadway.domain.roster import Roster, UnusableRosterError
from broadway.domain.webhook import Hook, HookFormat
from broadway.ingest.commands.limits import RejectedError, check_env


class HookRegistry(Protocol):
    """Hooks, which can be replaced and removed."""

    async def put(self, hook: Hook) -> None:
        """Store a hook; it replaces an earlier one of the same name completely."""

    async def of_course(self, course: str) -> Sequence[Hook]:
        """Return all hooks of a course."""

    async def delete(self, course: str, name: str) -> bool:
        """Remove a hook; return whether there was one."""


class RosterRegistry(Protocol):
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
        """Create or replace a hook."""
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
        hooks = await self.hooks.of_course(course)
        check_roster(roster, by_repository=[hook.name for hook in hooks if _finds_repositories(hook, assignment)])
        await self.rosters.put(course, assignment, roster)


def check_roster(roster: Roster, *, by_repository: Sequence[str] = ()) -> None:
    """Return if a new roster may be stored; ``by_repository`` as for ``Roster.check_matches``.

    Raises:
        InvalidEnvError: No program can have the variables of an entry.
        RejectedError: An entry matches no submission.
    """
    for index, entry in enumerate(roster.students):
        check_env(f"students.{index}.env", entry.env)
    try:
        roster.check_matches(by_repository=by_repository)
    except UnusableRosterError as error:
        raise RejectedError(str(error)) from error


def _finds_repositories(hook: Hook, assignment: str) -> bool:
    return hook.config.assignment == assignment and hook.config.format is HookFormat.GITHUB

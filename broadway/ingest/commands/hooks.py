"""Changing an assignment's roster and a course's hooks."""

from dataclasses import dataclass
from typing import Protocol

from broadway.domain.roster import Roster
from broadway.domain.webhook import Hook
from broadway.ingest.commands.limits import check_env, check_not_reserved


class HookRegistry(Protocol):
    """Hooks, which can be replaced and removed."""

    async def put(self, hook: Hook) -> None:
        """Store a hook; it replaces an earlier one of the same name completely."""

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
            UnstorableError: The roster is too large for the store; the earlier one stays.
        """
        for index, entry in enumerate(roster.students):
            check_env(f"students.{index}.env", entry.env)
            check_not_reserved(f"students.{index}.env", entry.env)
        await self.rosters.put(course, assignment, roster)

"""Reads of assignments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broadway.domain.assignment_settings import SettingsVersion
from broadway.domain.pages import CursorError, Slice, sliced
from broadway.domain.roster import Roster
from broadway.ingest.reads.stores import AssignmentQueries, HookQueries, SettingsQueries
from broadway.lifecycle.stores import AssignmentRosters


@dataclass(frozen=True, slots=True)
class AssignmentDetail:
    """An assignment's config as it was posted, its roster if it has one, and the names of its hooks."""

    name: str
    config: Mapping[str, Any]
    roster: Roster | None
    hooks: list[str]


@dataclass(frozen=True, slots=True)
class AssignmentReads:
    """Reads of the assignments of any course."""

    assignments: AssignmentQueries
    rosters: AssignmentRosters
    hooks: HookQueries
    versions: SettingsQueries

    async def config(self, course: str, assignment: str) -> dict[str, Any] | None:
        """Return a config as it was posted, or None."""
        return await self.assignments.get(course, assignment)

    async def detail(self, course: str, assignment: str) -> AssignmentDetail | None:
        """Return an assignment with its roster and hooks, or None."""
        config = await self.assignments.get(course, assignment)
        if config is None:
            return None
        roster = await self.rosters.get(course, assignment)
        hooks = [hook.name for hook in await self.hooks.of_course(course) if hook.config.assignment == assignment]
        return AssignmentDetail(assignment, config, roster, hooks)

    async def names(self, course: str, *, after: str | None, limit: int) -> Slice[str]:
        """Return a page of the names of a course's assignments, in order."""
        names = [name for name in await self.assignments.names(course) if name > (after or "")]
        return sliced(names, limit, str)

    async def roster(self, course: str, assignment: str) -> Roster | None:
        """Return the roster of an assignment, or None."""
        return await self.rosters.get(course, assignment)

    async def settings(self, course: str, assignment: str) -> SettingsVersion:
        """Return the current version of an assignment's settings; version 0 has the defaults."""
        return await self.versions.current(course, assignment)

    async def settings_versions(
        self, course: str, assignment: str, *, after: str | None, limit: int
    ) -> Slice[SettingsVersion]:
        """Return a page of the versions of an assignment's settings, latest first.

        Raises:
            CursorError: ``after`` is not a cursor.
        """
        if after is not None and not (after.isascii() and after.isdecimal()):
            raise CursorError("after: expected the next of the page before")
        before = None if after is None else int(after)
        found = await self.versions.latest(course, assignment, before=before, limit=limit + 1)
        return sliced(found, limit, lambda each: str(each.version))

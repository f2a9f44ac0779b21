"""Changing the settings of assignments."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from broadway.domain.assignment_settings import AssignmentSettings, SettingsVersion
from broadway.ingest.commands.hooks import check_groups
from broadway.lifecycle.stores import AssignmentConfigs, AssignmentRosters, CurrentSettings

log = structlog.get_logger(__name__)

TRIES = 20  # of a change without an expected version, while others change the settings, too


class UnknownAssignmentError(ValueError):
    """The course has no such assignment."""


class SettingsChangedError(ValueError):
    """The settings have another version than the caller knows."""


class StoredSettings(CurrentSettings, Protocol):
    """Versions of assignments' settings."""

    async def add(self, course: str, assignment: str, version: SettingsVersion) -> bool:
        """Store a new version; return False if another one has its number."""


@dataclass(frozen=True, slots=True)
class SettingsChanges:
    """Adds versions of assignments' settings."""

    assignments: AssignmentConfigs
    settings: StoredSettings
    rosters: AssignmentRosters

    async def put(
        self, course: str, assignment: str, settings: AssignmentSettings, *, by: str, expected: int | None
    ) -> SettingsVersion:
        """Store settings as the next version, and return it; equal settings are no new version.

        Raises:
            UnknownAssignmentError: The assignment has no pipelines yet.
            RejectedError: The roster has a group that is larger than the policy allows.
            SettingsChangedError: The present version is not the ``expected`` one, or changes all the time.
        """
        if await self.assignments.get(course, assignment) is None:
            raise UnknownAssignmentError(assignment)
        if roster := await self.rosters.get(course, assignment):
            check_groups(roster, settings)
        for _ in range(TRIES):
            present = await self.settings.current(course, assignment)
            if expected is not None and present.version != expected:
                raise SettingsChangedError(f"the settings have version {present.version}, not {expected}")
            if present.version and present.settings == settings:
                return present
            following = SettingsVersion(settings, present.version + 1, datetime.now(UTC), by)
            if await self.settings.add(course, assignment, following):
                log.info("assignment settings changed", course=course, assignment=assignment, version=following.version)
                return following
        raise SettingsChangedError("the settings are being changed by others; try again")

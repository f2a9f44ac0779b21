"""The promises of stored runs and uploads that grow old."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from broadway.domain.retention import OldRun


class OldRuns(Protocol):
    """Runs that ended long ago, and uploads."""

    async def old_runs(self, course: str, assignment: str, before: datetime, *, regrade: bool = False) -> list[OldRun]:
        """Return the runs of an assignment that ended before a moment and have no order; or those of its regrades."""

    async def received(self, course: str, assignment: str, cuts: Sequence[str] = ()) -> dict[str, tuple[str, datetime]]:
        """Return the students and times of the uploads for an assignment, by id, read in parts between ``cuts``."""

"""Registering the pipelines of assignments."""

from dataclasses import dataclass

from broadway.domain.assignment import AssignmentConfig
from broadway.ingest.commands.limits import Limits, check_limits
from broadway.ingest.commands.stores import AssignmentRegistry


@dataclass(frozen=True, slots=True)
class Registration:
    """Checks assignment configs against the operator's limits and stores them."""

    assignments: AssignmentRegistry
    limits: Limits

    async def register(self, course: str, assignment: str, config: AssignmentConfig) -> None:
        """Store a config; it replaces an earlier one completely, and runs that have started keep theirs.

        Raises:
            RejectedError: The config exceeds a limit.
            UnstorableError: The config is too large for the store; the earlier one stays.
        """
        check_limits(config, self.limits, course=course)
        await self.assignments.put(course, assignment, config.as_posted())

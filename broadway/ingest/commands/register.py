"""Registering the pipelines of assignments."""

from dataclasses import dataclass

from broadway.domain.assignment import AssignmentConfig
from broadway.domain.course import Course
from broadway.domain.run import PIPELINE_OF
from broadway.ingest.commands.limits import Limits, QuotaError, check_id, check_limits, check_not_reserved
from broadway.ingest.commands.stores import AssignmentRegistry


@dataclass(frozen=True, slots=True)
class Registration:
    """Checks assignment configs against the operator's limits and stores them."""

    assignments: AssignmentRegistry
    limits: Limits

    async def register(
        self, course: Course, assignment: str, config: AssignmentConfig, *, may_set_reserved: bool = False
    ) -> None:
        """Store a config; it replaces an earlier one completely, and runs that have started keep theirs.

        ``may_set_reserved`` admits variables of Broadway's own in it, as the original does.

        Raises:
            RejectedError: The config exceeds a limit, or the course has as many assignments as it may have.
            UnstorableError: The config is too large for the store; the earlier one stays.
        """
        limits = self.limits.of_course(course)
        check_limits(config, limits, course=course.id)
        if not may_set_reserved:
            _check_reserved(config)
        if await self.assignments.get(course.id, assignment) is None:
            await self._demand_room(course.id, assignment, limits.assignments)
        await self.assignments.put(course.id, assignment, config.as_posted())

    async def _demand_room(self, course: str, assignment: str, most: int) -> None:
        check_id("assignment", assignment)
        if (present := await self.assignments.count(course)) >= most:
            raise QuotaError(f"assignment: {course} has {present} assignments, {most} are allowed")


def _check_reserved(config: AssignmentConfig) -> None:
    check_not_reserved("env", config.env or {})
    for key in PIPELINE_OF.values():
        for index, stage in enumerate(getattr(config, key) or []):
            check_not_reserved(f"{key}.{index}.env", stage.env)

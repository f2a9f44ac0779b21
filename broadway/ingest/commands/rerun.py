"""Reruns of runs and jobs: with the config that their run has, or with the assignment's present one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from broadway.domain.handed_in import digest_of_config
from broadway.domain.run import Run
from broadway.ingest.commands.job_sizes import check_jobs
from broadway.ingest.commands.limits import Limits, RejectedError, allowed, check_rerun
from broadway.lifecycle.orders import Ordered, OrderError, Orders
from broadway.lifecycle.stores import AssignmentConfigs, CoursesById


@dataclass(frozen=True, slots=True)
class Rerunning:
    """A rerun that has been ordered. ``is_current``: its config is the assignment's present one.

    ``config`` is the digest of its config, and ``config_before`` that of the config that the run had until now.
    """

    ordered: Ordered
    is_current: bool
    config: str
    config_before: str


@dataclass(frozen=True, slots=True)
class Reruns:
    """Orders reruns, and decides about their configs."""

    orders: Orders
    assignments: AssignmentConfigs
    limits: Limits
    courses: CoursesById

    async def start(
        self, run: Run, *, only: Collection[str] | None = None, failed: bool = False, with_current: bool = False
    ) -> Rerunning:
        """Run jobs of a run again, then the later phases.

        Args:
            run: The run; its config may be left out.
            only: Ids of jobs; all jobs if None.
            failed: Select only jobs that ended without success.
            with_current: Use the assignment's present config, in this and all later rounds, instead of the run's own.

        Raises:
            NoRunError: The run does not exist.
            NothingToDoError: The run has no matching job.
            RunIsBusyError: Other processes change the run.
            NoConfigError: The run has no config.
            RejectedError: The config exceeds a limit, or the assignment has none.
            OrderError: The run is a part of a regrade.
            UnstorableError: The config is too large for the store.
        """
        if run.regrade:
            raise OrderError("the run is a part of a regrade; refresh the regrade instead")
        registered = await self.assignments.get(run.course, run.assignment)
        if with_current and registered is None:
            raise RejectedError("assignment configuration not found")
        course = await self.courses.get(run.course)
        limits = self.limits.of_course(course) if course else self.limits
        current = None if registered is None else _usable(registered, run.course, limits, must_be=with_current)
        stored_configs: list[Mapping[str, Any]] = []

        config = current if with_current else None

        def check(stored: Run) -> None:
            changed = replace(stored, config=config) if config else stored
            check_rerun(changed, limits)
            check_jobs(changed)
            stored_configs.append(stored.config)

        ordered = await self.orders.run_again(run.id, only=only, failed=failed, check=check, config=config)
        before = stored_configs[-1]
        used = config or before
        return Rerunning(ordered, used == current, digest_of_config(used), digest_of_config(before))


def _usable(registered: Mapping[str, Any], course: str, limits: Limits, *, must_be: bool) -> dict[str, Any] | None:
    """Return a registered config as a new run would have it; None if it exceeds a limit and is not needed."""
    try:
        return allowed(registered, limits, course=course)
    except RejectedError:
        if must_be:
            raise
        return None

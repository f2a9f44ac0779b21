"""Protocols for the stored data that several use cases need, with a promise per method. Use cases combine them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from broadway.domain.assignment_settings import SettingsVersion
from broadway.domain.course import Course
from broadway.domain.grader import Grader
from broadway.domain.job import Job
from broadway.domain.moves import Move, Moved
from broadway.domain.roster import Roster
from broadway.domain.run import Run
from broadway.domain.submission import Submission

Stages = list[dict[str, Any]]


class SingleJobs(Protocol):
    """Jobs, one at a time."""

    async def get(self, job_id: str) -> Job | None:
        """Return a job without its stages, or None."""


class JobsById(Protocol):
    """Jobs, many at a time."""

    async def get_many(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Return jobs by id, without stages and results; unknown ids are left out."""


class JobsOfRuns(Protocol):
    """Jobs by the run that they belong to."""

    async def of_run(self, run_id: str) -> list[Job]:
        """Return a run's jobs, in the order of phases and of the roster."""


class JobStages(Protocol):
    """The stages of jobs."""

    async def stages(self, job_ids: Sequence[str]) -> dict[str, Stages]:
        """Return the stages of jobs, with their merged environments, by id; unknown ids are left out."""


class JobMoves(Protocol):
    """Jobs that can be moved from state to state."""

    async def move(self, moves: Mapping[str, Move]) -> dict[str, Moved]:
        """Apply moves to jobs by id, each in one conditional update; return the jobs that exist, before and after."""


class JobLeases(Protocol):
    """The leases of running jobs."""

    async def renew_leases(
        self, execution_ids: Sequence[str], job_ids: Sequence[str], until: datetime, *, unless_after: datetime
    ) -> None:
        """Extend the leases of jobs that still run one of the executions, unless they end after ``unless_after``."""


class RunSummaries(Protocol):
    """Runs without their rosters and configs, which may be large."""

    async def summary(self, run_id: str) -> Run | None:
        """Return a run without its roster and config, or None."""


class RunSummariesById(Protocol):
    """Runs, many at a time."""

    async def summaries(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Return runs by id, without rosters and configs; unknown ids are left out."""


class AssignmentConfigs(Protocol):
    """The configs of assignments."""

    async def get(self, course: str, assignment: str) -> dict[str, Any] | None:
        """Return a config as it was posted, absent keys as None; None if the assignment does not exist."""


class AssignmentRosters(Protocol):
    """The rosters of assignments."""

    async def get(self, course: str, assignment: str) -> Roster | None:
        """Return the roster of an assignment, or None."""


class RecentRosters(Protocol):
    """The rosters of assignments, which may be a second behind the store."""

    async def recent(self, course: str, assignment: str) -> Roster | None:
        """Return the roster of an assignment, or None."""


class CoursesById(Protocol):
    """Courses, one at a time."""

    async def get(self, course_id: str) -> Course | None:
        """Return a course, or None."""


class CourseList(Protocol):
    """Courses, all at once."""

    async def all(self) -> list[Course]:
        """Return every course."""


class GraderList(Protocol):
    """Graders, all at once."""

    async def all(self) -> list[Grader]:
        """Return all graders, dead ones too, by id."""


class GradersById(Protocol):
    """Graders, one at a time."""

    async def get(self, grader_id: str) -> Grader | None:
        """Return a grader, no matter how it joined, or None."""


class CurrentSettings(Protocol):
    """The settings of assignments."""

    async def current(self, course: str, assignment: str) -> SettingsVersion:
        """Return the latest version of an assignment's settings, or the defaults as version 0."""


class SubmissionsById(Protocol):
    """Submissions, one at a time."""

    async def get(self, course: str, identity: str) -> Submission | None:
        """Return a course's submission, or None."""


class Leases(Protocol):
    """Named leases, each held by one process at a time."""

    async def acquire(self, name: str, holder: str, ttl: timedelta) -> bool:
        """Take or renew a lease for ``ttl`` from now; return False while another process holds it.

        Raises:
            StoreError: The store is unavailable.
        """

    async def release(self, name: str, holder: str) -> None:
        """Release a lease if ``holder`` holds it.

        Raises:
            StoreError: The store is unavailable.
        """

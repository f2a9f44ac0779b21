"""The queries on stored data that reads need."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from broadway.domain.access import AccessToken, TokenKind
from broadway.domain.assignment_settings import SettingsVersion
from broadway.domain.audit import AuditRecord
from broadway.domain.extension import Extension
from broadway.domain.grader import Grader
from broadway.domain.job import Job
from broadway.domain.originals import StageReport
from broadway.domain.result import JobLog
from broadway.domain.retention import Removed
from broadway.domain.run import Run
from broadway.domain.webhook import Delivery, DeliveryState, Hook
from broadway.lifecycle.stores import (
    AssignmentConfigs,
    CurrentSettings,
    GraderList,
    GradersById,
    JobsById,
    JobsOfRuns,
    JobStages,
    RunSummaries,
    SingleJobs,
    Stages,
)


class AssignmentQueries(AssignmentConfigs, Protocol):
    """Queries on assignment configs."""

    async def names(self, course: str) -> list[str]:
        """Return the names of a course's assignments, in order."""


class SettingsQueries(CurrentSettings, Protocol):
    """Queries on the settings of assignments."""

    async def latest(self, course: str, assignment: str, *, before: int | None, limit: int) -> list[SettingsVersion]:
        """Return versions, latest first; only those before ``before`` if it is given."""


class ExtensionQueries(Protocol):
    """Queries on extensions."""

    async def of_assignment(self, course: str, assignment: str) -> list[Extension]:
        """Return all extensions of an assignment, in the order in which they were added; at most `MAX_EXTENSIONS`."""


class LateDayClaims(Protocol):
    """Queries on the late days that students have claimed."""

    async def of_assignment(self, course: str, assignment: str) -> dict[str, int]:
        """Return the days by student; those without a claim are left out."""

    async def of_student(self, course: str, assignment: str, student: str) -> int:
        """Return the days of a student, 0 without a claim."""


class ChosenSubmissions(Protocol):
    """Queries on the submissions that students have chosen to count."""

    async def of_assignment(self, course: str, assignment: str) -> dict[str, str]:
        """Return the ids of submissions by student; those without a choice are left out."""

    async def of_student(self, course: str, assignment: str, student: str) -> str | None:
        """Return the id of the submission that a student has chosen, or None."""


class RunQueries(RunSummaries, Protocol):
    """Queries on runs."""

    async def of_assignments(self, names: Sequence[str], *, before: str | None, limit: int) -> list[Run]:
        """Return runs of ``<course>/<assignment>``, latest first, without rosters and configs.

        Raises:
            CursorError: ``before`` is not a cursor.
        """


class JobQueries(SingleJobs, JobsById, JobsOfRuns, JobStages, Protocol):
    """Queries on jobs."""

    async def stages_of_run(self, run_id: str) -> dict[str, Stages]:
        """Return the stages of a run's jobs by id."""

    async def with_results(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Return jobs by id with their results, without stages; unknown ids are left out."""

    async def count_waiting(self, course: str) -> int:
        """Return the number of a course's jobs that wait for their first start."""

    async def position(self, job: Job) -> int:
        """Return the number of its course's jobs that start before a waiting job."""


class IdQueries(Protocol):
    """Queries for ids by their beginnings, 6 to 24 hexadecimal digits."""

    async def of_runs(self, course: str, prefix: str, *, limit: int) -> list[str]:
        """Return the ids of a course's runs that begin with ``prefix``."""

    async def of_jobs(self, course: str, prefix: str, *, limit: int) -> list[str]:
        """Return the ids of a course's jobs that begin with ``prefix``."""


class RemovedQueries(Protocol):
    """Queries on what retention has removed."""

    async def noted(self, identity: str, course: str) -> Removed | None:
        """Return the note of a removed run, of the run of a removed job, or of a removed submission of a course."""

    async def log_removed_at(self, job_id: str, generation: int) -> datetime | None:
        """Return the time at which the log of a job was removed, or None."""


class LogQueries(Protocol):
    """Queries on logs."""

    async def get(self, job_id: str, execution_id: str | None, *, generation: int | None = None) -> JobLog | None:
        """Return the log of one execution in a job's generation, or None. Jobs of the original have no execution id."""


class ReportQueries(Protocol):
    """Queries on reports."""

    async def of_execution(self, job_id: str, execution_id: str) -> list[StageReport]:
        """Return the reports of an execution of a job, by stage; their files have no bytes."""

    async def of_executions(self, execution_ids: Sequence[str]) -> dict[str, list[StageReport]]:
        """Return the reports of executions by execution id; executions without reports are left out."""

    async def file(self, sha256: str) -> bytes | None:
        """Return the bytes of a results file, or None."""


class LiveGraders(Protocol):
    """The graders that are alive."""

    async def alive(self) -> list[Grader]:
        """Return the graders that are marked alive."""


class GraderQueries(GradersById, GraderList, LiveGraders, Protocol):
    """Queries on graders."""


class HookQueries(Protocol):
    """Queries on hooks."""

    async def get(self, course: str, name: str) -> Hook | None:
        """Return a hook, or None."""

    async def of_course(self, course: str) -> list[Hook]:
        """Return a course's hooks, by name."""


class TokenQueries(Protocol):
    """Queries on access tokens."""

    async def one_of_course(self, course: str, identity: str) -> AccessToken | None:
        """Return a course's token, valid or not, or None."""

    async def of_course(
        self, course: str, kinds: Sequence[TokenKind], *, student: str | None = None, before: str | None, limit: int
    ) -> list[AccessToken]:
        """Return a course's tokens of some kinds, latest first; only those of a student if one is given.

        Raises:
            CursorError: ``before`` is not a cursor.
        """


class AuditQueries(Protocol):
    """Queries on the audit log."""

    async def latest(
        self,
        *,
        course: str | None,
        name: str | None,
        operation: str | None,
        paths: Sequence[str] = (),
        before: str | None,
        limit: int,
    ) -> list[AuditRecord]:
        """Return records, latest first; only those that have the given values, and whose objects begin with a path.

        Raises:
            CursorError: ``before`` is not a cursor.
        """


class DeliveryQueries(Protocol):
    """Queries on webhook deliveries."""

    async def get(self, identity: str) -> Delivery | None:
        """Return a delivery with its body, or None."""

    async def of_hook(
        self, course: str, hook: str, *, before: str | None, limit: int, state: DeliveryState | None
    ) -> Sequence[Delivery]:
        """Return a hook's deliveries, latest first, without bodies.

        Raises:
            CursorError: ``before`` is not a cursor.
        """

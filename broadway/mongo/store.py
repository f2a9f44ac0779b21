"""All collections of a deployment, and the connection to them."""

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from pymongo import WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from broadway.mongo.access_tokens import AccessTokens
from broadway.mongo.artifacts import ArtifactStore
from broadway.mongo.assignment_settings import AssignmentSettingsStore
from broadway.mongo.assignments import Assignments
from broadway.mongo.audit import Audit
from broadway.mongo.batched import (
    Batched,
    BatchedAssignments,
    BatchedAudit,
    BatchedCourses,
    BatchedDeliveries,
    BatchedJobs,
    BatchedRuns,
)
from broadway.mongo.blobs import Blobs
from broadway.mongo.callback_store import Callbacks
from broadway.mongo.client import Answers, Client, connected
from broadway.mongo.courses import Courses
from broadway.mongo.dead_letters import DeadLetters
from broadway.mongo.deliveries import Deliveries
from broadway.mongo.errors import StoreUnreachableError, translated, unreachable
from broadway.mongo.graders import Graders
from broadway.mongo.grades import GradeStores
from broadway.mongo.hooks import Hooks, Quotas, Rosters
from broadway.mongo.ids import Ids
from broadway.mongo.jobs import Jobs
from broadway.mongo.leases import Leases
from broadway.mongo.logs import Logs
from broadway.mongo.migrations import Migrations, UnfinishedRestoreError, drop_replaced_indexes
from broadway.mongo.old_graders import OldGraders
from broadway.mongo.outcomes import Outcomes
from broadway.mongo.pools import Pools
from broadway.mongo.progress import Progress
from broadway.mongo.removals import Removals
from broadway.mongo.reports import Reports
from broadway.mongo.retention import RetentionStates
from broadway.mongo.runs import Runs
from broadway.mongo.secrets import Secrets
from broadway.mongo.sessions import PageSessions
from broadway.mongo.stored_bytes import StoredBytes
from broadway.mongo.student_data import StudentData
from broadway.mongo.student_erasure import StudentErasure
from broadway.mongo.students import Students
from broadway.mongo.submissions import SubmissionStore
from broadway.mongo.work_results import WorkResults
from broadway.ports import StoreError

Database = AsyncDatabase[dict[str, Any]]
DURABLE = WriteConcern("majority", j=True, wtimeout=10_000)


@dataclass(frozen=True, slots=True)
class Store:
    """All collections of a deployment."""

    courses: Courses
    assignments: Assignments
    assignment_settings: AssignmentSettingsStore
    grades: GradeStores
    runs: Runs
    jobs: Jobs
    progress: Progress
    logs: Logs
    reports: Reports
    graders: Graders
    leases: Leases
    secrets: Secrets
    access_tokens: AccessTokens
    audit: Audit
    pools: Pools
    dead_letters: DeadLetters
    hooks: Hooks
    rosters: Rosters
    deliveries: Deliveries
    quotas: Quotas
    ids: Ids
    blobs: Blobs
    submissions: SubmissionStore
    artifacts: ArtifactStore
    stored_bytes: StoredBytes
    page_sessions: PageSessions
    callbacks: Callbacks
    migrations: Migrations
    retention: RetentionStates
    removals: Removals
    old_graders: OldGraders
    student_data: StudentData
    student_erasure: StudentErasure
    _primary: Database
    _answers: Answers

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, dsn: str, *, primary: str = "AG", logs: str = "logs", server_timeout: float = 5, service: str = "broadway"
    ) -> AsyncIterator[Self]:
        """Connect, check that the store answers, carry out pending migrations, and create missing indexes.

        Args:
            dsn: A MongoDB connection string.
            primary: The database of all collections except the logs.
            logs: The database of the logs.
            server_timeout: Seconds to wait for a server.
            service: The name of the connection, as the server shows it.

        Raises:
            StoreUnreachableError: The address is invalid, or no usable server answers within the timeout.
            UnfinishedRestoreError: The store has a part of a backup.
        """
        async with connected(dsn, server_timeout=server_timeout, service=service) as client:
            try:
                store = await cls._open(client, primary, logs, service)
            except UnfinishedRestoreError:
                raise
            except (ConnectionError, PyMongoError, StoreError) as error:
                raise StoreUnreachableError(unreachable(error)) from error
            yield store

    @classmethod
    async def _open(cls, client: Client, primary: str, logs: str, service: str) -> Self:
        main, second = (client.get_database(name, write_concern=DURABLE) for name in (primary, logs))
        store = cls.of(main, second, client.answers)
        await store.migrations.require_whole()
        await store.migrations.run(main, by=f"{service} on {socket.gethostname()}")
        await store.ensure_indexes()
        await drop_replaced_indexes(main)
        return store

    @classmethod
    def of(cls, main: Database, logs: Database, answers: Answers) -> Self:
        """Return the collections of two databases."""
        callbacks, results = Callbacks.of(main), _results_of_works(main)
        outcomes = Outcomes(main["job_outcome"], callbacks.events)
        return cls(
            courses=Courses(main["course"]),
            assignments=Assignments(main["assignment_config"]),
            assignment_settings=AssignmentSettingsStore(main["assignment_settings"]),
            grades=GradeStores.of(main, results),
            runs=Runs(main["grading_run"], main["run_students"], callbacks.events),
            jobs=Jobs(main["grading_job"], outcomes, results),
            progress=Progress(main["grading_job"], outcomes),
            logs=Logs(logs["job_log"], outcomes),
            reports=Reports(main["job_report"], main["report_file"]),
            graders=Graders(main["worker_node"]),
            leases=Leases(main["service_lease"]),
            secrets=Secrets(main["service_secret"]),
            access_tokens=AccessTokens(main["access_token"]),
            audit=Audit(main["audit"]),
            pools=Pools(main["pool"]),
            dead_letters=DeadLetters(main["dead_letter"]),
            hooks=Hooks(main["hook"]),
            rosters=Rosters(main["roster"]),
            deliveries=Deliveries(main["hook_delivery"]),
            quotas=Quotas(main["hook_quota"]),
            ids=Ids(main["grading_run"], main["grading_job"]),
            blobs=Blobs(main["blob"]),
            submissions=SubmissionStore(main["submission"]),
            artifacts=ArtifactStore(main["artifact"]),
            stored_bytes=StoredBytes(main["stored_bytes"], main["submission"]),
            page_sessions=PageSessions(main["page_session"]),
            callbacks=callbacks,
            migrations=Migrations(main["migration"]),
            retention=RetentionStates(main["retention"]),
            removals=Removals.of(main, logs),
            old_graders=OldGraders(main["worker_node"]),
            student_data=StudentData.of(main, logs),
            student_erasure=StudentErasure.of(main, logs),
            _primary=main,
            _answers=answers,
        )

    async def ensure_indexes(self) -> None:
        """Create the indexes that are missing."""
        await self.runs.ensure_indexes()
        await Students(self._primary["run_students"]).ensure_indexes()
        await self.jobs.ensure_indexes()
        await _results_of_works(self._primary).ensure_indexes()
        await self.grades.ensure_indexes()
        await self.logs.ensure_indexes()
        await self.graders.ensure_indexes()
        await self.rosters.ensure_indexes()
        await self.deliveries.ensure_indexes()
        await self.access_tokens.ensure_indexes()
        await self.audit.ensure_indexes()
        await self.blobs.ensure_indexes()
        await self.submissions.ensure_indexes()
        await self.artifacts.ensure_indexes()
        await self.page_sessions.ensure_indexes()
        await self.callbacks.ensure_indexes()
        await self.removals.ensure_indexes()
        await self.reports.ensure_indexes()
        await self.student_erasure.deletions.ensure_indexes()

    def shared(self, *, linger: float = 0) -> Batched:
        """Return the most used collections, batched for many concurrent callers; ``linger``: see ``BatchedRuns``."""
        events = self.callbacks.events
        students, outcomes = self._primary["run_students"], Outcomes(self._primary["job_outcome"], events)
        return Batched(
            courses=BatchedCourses(self._primary["course"]),
            assignments=BatchedAssignments(self._primary["assignment_config"]),
            runs=BatchedRuns(self._primary["grading_run"], students, events, linger=linger),
            jobs=BatchedJobs(self._primary["grading_job"], outcomes, _results_of_works(self._primary)),
            deliveries=BatchedDeliveries(self._primary["hook_delivery"]),
            audit=BatchedAudit(self._primary["audit"], linger=linger),
        )

    def answered_at(self) -> float:
        """Return the time of the store's last answer to any request of this process, on the monotonic clock."""
        return self._answers.last

    async def ping(self) -> None:
        """Return once the store has answered.

        Raises:
            StoreError: The store is unavailable.
        """
        await translated(self._primary.command("ping"))

    async def clock(self) -> datetime:
        """Return the time by the store's clock.

        Raises:
            StoreError: The store is unavailable.
        """
        shown: datetime = (await translated(self._primary.command("hello")))["localTime"]
        return shown if shown.tzinfo else shown.replace(tzinfo=UTC)


def _results_of_works(main: Database) -> WorkResults:
    return WorkResults(main["work_result"], main["submission"])

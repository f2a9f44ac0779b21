"""All reads of one deployment."""

from dataclasses import dataclass

from broadway.ingest.reads.access import AuditReads, TokenReads
from broadway.ingest.reads.artifacts import ArtifactReads
from broadway.ingest.reads.assignments import AssignmentReads
from broadway.ingest.reads.callbacks import CallbackReads
from broadway.ingest.reads.class_jobs import ClassJobs
from broadway.ingest.reads.extensions import ExtensionReads
from broadway.ingest.reads.grade_sheets import GradeSheets
from broadway.ingest.reads.graders import GraderReads
from broadway.ingest.reads.grades import GradeReads
from broadway.ingest.reads.hooks import HookReads
from broadway.ingest.reads.job_files import JobFilesReads
from broadway.ingest.reads.jobs import JobReads
from broadway.ingest.reads.members import MemberReads
from broadway.ingest.reads.operations import OperationReads
from broadway.ingest.reads.pools import PoolLoads
from broadway.ingest.reads.progress import ProgressReads
from broadway.ingest.reads.regrades import RegradeReads
from broadway.ingest.reads.reports import ReportReads
from broadway.ingest.reads.run_tables import RunTables
from broadway.ingest.reads.runs import RunReads
from broadway.ingest.reads.standings import StandingReads
from broadway.ingest.reads.stores import IdQueries, RemovedQueries
from broadway.ingest.reads.student_export import StudentExports
from broadway.ingest.reads.submissions import SubmissionReads
from broadway.ingest.reads.waiting import WaitingReads


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads by the resource that they return."""

    assignments: AssignmentReads
    members: MemberReads
    extensions: ExtensionReads
    grades: GradeReads
    standings: StandingReads
    runs: RunReads
    progress: ProgressReads
    run_tables: RunTables
    jobs: JobReads
    waiting: WaitingReads
    reports: ReportReads
    regrades: RegradeReads
    hooks: HookReads
    callbacks: CallbackReads
    graders: GraderReads
    tokens: TokenReads
    audit: AuditReads
    submissions: SubmissionReads
    job_files: JobFilesReads
    artifacts: ArtifactReads
    sheets: GradeSheets
    operations: OperationReads
    pools: PoolLoads
    class_jobs: ClassJobs
    ids: IdQueries
    removed: RemovedQueries
    student_exports: StudentExports

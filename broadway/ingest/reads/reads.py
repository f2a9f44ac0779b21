"""All reads of one deployment."""

from dataclasses import dataclass

from broadway.ingest.reads.access import AuditReads, TokenReads
from broadway.ingest.reads.artifacts import ArtifactReads
from broadway.ingest.reads.assignments import AssignmentReads
from broadway.ingest.reads.graders import GraderReads
from broadway.ingest.reads.hooks import HookReads
from broadway.ingest.reads.job_files import JobFilesReads
from broadway.ingest.reads.jobs import JobReads
from broadway.ingest.reads.progress import ProgressReads
from broadway.ingest.reads.reports import ReportReads
from broadway.ingest.reads.runs import RunReads
from broadway.ingest.reads.stores import IdQueries
from broadway.ingest.reads.submissions import SubmissionReads
from broadway.ingest.reads.waiting import WaitingReads


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads by the resource that they return."""

    assignments: AssignmentReads
    runs: RunReads
    progress: ProgressReads
    jobs: JobReads
    waiting: WaitingReads
    reports: ReportReads
    hooks: HookReads
    graders: GraderReads
    tokens: TokenReads
    audit: AuditReads
    submissions: SubmissionReads
    job_files: JobFilesReads
    artifacts: ArtifactReads
    ids: IdQueries

"""Reads of reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from broadway.domain.earlier_scores import report_of
from broadway.domain.job import Job
from broadway.domain.marks import Marks
from broadway.domain.originals import OriginalFile, Reported, StageReport
from broadway.domain.result import REPORT, Scores
from broadway.domain.visibility import Role, Standing, VisibleReport, visible
from broadway.ingest.reads.stores import ReportQueries

FOR_STUDENTS = "there are no results that count; the course staff can see the reason"


@dataclass(frozen=True, slots=True)
class ShownReport:
    """The report of an attempt, as a role sees it: ``seen``, or the ``problem`` with its results files.

    ``files`` are for staff; without their bytes.
    """

    attempt: str
    stage: int
    seen: VisibleReport | None
    problem: str
    files: Sequence[OriginalFile]

    @property
    def log_stage(self) -> int | None:
        """The stage whose log the report shows to its reader, or None."""
        return self.stage if self.seen and self.seen.shows_log else None


@dataclass(frozen=True, slots=True)
class ReportReads:
    """Reads of the reports of any job."""

    reports: ReportQueries

    async def shown(self, job: Job, attempt: str | None, role: Role, standing: Standing) -> ShownReport | None:
        """Return the report of one of a job's attempts, as a role sees it.

        Args:
            job: The job.
            attempt: The id of the attempt; None for the one that ended the job.
            role: The reader's role.
            standing: The state of the student's assignment.

        Returns:
            None if the attempt does not exist, has not ended, or has no report.
        """
        found = await self._report(job, attempt)
        return shown_to(found, role, standing) if found else None

    async def file(self, job: Job, attempt: str | None, sha256: str) -> tuple[str, bytes] | None:
        """Return the path and the bytes of a results file of an attempt, or None if it has no such file."""
        found = await self._report(job, attempt)
        file = next((each for each in found.reported.files if each.sha256 == sha256), None) if found else None
        content = await self.reports.file(sha256) if file else None
        return None if file is None or content is None else (file.path, content)

    async def _report(self, job: Job, attempt: str | None) -> StageReport | None:
        """Return the report, or the problem, of the last stage that has results."""
        execution_id = attempt or (job.execution_id if job.is_terminal else None)
        is_known = execution_id is not None and any(each.execution_id == execution_id for each in job.attempts)
        stored = await self.reports.of_execution(job.id, execution_id or "") if is_known else []
        if stored:
            return max(stored, key=lambda each: each.stage)
        if not job.is_terminal or attempt not in (None, job.execution_id):
            return None
        return of_results(job)


async def stored_marks(reports: ReportQueries, job_id: str, execution_id: str) -> Marks:
    """Return the marks of an execution's last report, for attempts that an earlier version stored without marks."""
    stored = await reports.of_execution(job_id, execution_id)
    last = max(stored, key=lambda each: each.stage, default=None)
    return Marks.of(last.reported.report) if last and last.reported.report else Marks()


def shown_to(found: StageReport, role: Role, standing: Standing) -> ShownReport:
    """Return a report as a role sees it."""
    reported = found.reported
    seen = visible(reported.report, role, standing) if reported.report else None
    is_staff = role is Role.STAFF
    problem = reported.problem if is_staff or not reported.problem else FOR_STUDENTS
    return ShownReport(found.execution_id, found.stage, seen, problem, reported.files if is_staff else ())


def of_results(job: Job) -> StageReport | None:
    """Return the report in a job's own results: of a recorder of an earlier version, or made of scores."""
    return report_in(job.results or [], job_id=job.id, execution_id=job.execution_id or "")


def report_in(results: Sequence[dict[str, Any]], *, job_id: str, execution_id: str) -> StageReport | None:
    """Return the report of the last stage that has one, or scores, in the results of an execution."""
    for stage, entry in reversed(list(enumerate(results))):
        if reported := _reported(entry):
            return StageReport(job_id, execution_id, stage, reported)
    return None


def _reported(entry: dict[str, Any]) -> Reported | None:
    if isinstance(entry.get(REPORT), dict):
        try:
            return Reported.model_validate(entry[REPORT]).without_bytes()
        except ValidationError:  # a note, whose report is not there; or no report
            return None
    scores = Scores.read(entry.get("scores"))
    return Reported(report=report_of(scores)) if scores else None

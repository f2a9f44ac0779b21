"""Reports as resources."""

from broadway.domain.visibility import Role
from broadway.ingest.reads.reports import ShownReport
from broadway.messages.resources.reports import ReportFileView, ReportView


def report_view(job: str, found: ShownReport, role: Role) -> ReportView:
    """Return the report of a job's attempt, as a role sees it."""
    return ReportView(
        job=job,
        attempt=found.attempt,
        stage=found.stage,
        view=role.value,
        report=found.seen.report if found.seen else None,
        shows_log=found.seen.shows_log if found.seen else role is Role.STAFF,
        problem=found.problem,
        warning=found.seen.warning if found.seen else "",
        files=[ReportFileView(path=file.path, sha256=file.sha256, size=file.size) for file in found.files],
    )

"""Reports on their way from graders' events to their own collection."""

from collections.abc import Sequence
from typing import Any, Protocol

import structlog
from pydantic import ValidationError

from broadway.domain.earlier_scores import report_of
from broadway.domain.marks import Marks
from broadway.domain.mistakes import mistakes
from broadway.domain.originals import OriginalFile, Reported, StageReport
from broadway.domain.result import REPORT, ReportNote, Scores
from broadway.messages.events import Event, JobFinished
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)


class RecordedReports(Protocol):
    """The operations on stored reports that recording needs."""

    async def put_files(self, files: Sequence[OriginalFile]) -> None:
        """Store the bytes of files by their hashes; bytes that are already stored stay as they are."""

    async def put(self, reports: Sequence[StageReport]) -> None:
        """Store the reports of executions without their files' bytes; an execution that has reports keeps them."""

    async def remove(self, job_id: str, executions: Sequence[str]) -> None:
        """Remove the reports of executions of a job."""


async def record_reports(store: RecordedReports, reports: Sequence[StageReport]) -> None:
    """Store reports after the bytes of their files. Storing is idempotent."""
    if files := {file.sha256: file for each in reports for file in each.reported.files if file.data}:
        await store.put_files(list(files.values()))
    await reach(Point.RECORD_FILES_STORED)
    if reports:
        await store.put(reports)
    await reach(Point.RECORD_REPORTS_STORED)


def without_reports(events: Sequence[Event]) -> tuple[list[Event], list[StageReport]]:
    """Return events whose results have notes instead of reports, and the reports.

    The stages of a cancelled job are no result of the job: their reports are left out.
    """
    reports: list[StageReport] = []
    return [_without(event, reports) if isinstance(event, JobFinished) else event for event in events], reports


def marks_of(events: Sequence[Event], reports: Sequence[StageReport]) -> dict[str, Marks]:
    """Return the marks of executions that have ended, by execution id.

    They are those of the last stage that has a report, or scores without one. ``events`` have no reports any more. The
    marks of an event without results of stages are unknown, and left out: the store may have refused these results.
    """
    last: dict[str, StageReport] = {each.execution_id: each for each in sorted(reports, key=lambda each: each.stage)}
    return {
        event.execution_id: _marks(event, last.get(event.execution_id))
        for event in events
        if isinstance(event, JobFinished) and any("success" in entry for entry in event.results)
    }


def _marks(event: JobFinished, last: StageReport | None) -> Marks:
    if last:
        return Marks.of(last.reported.report) if last.reported.report else Marks()
    scores = next((s for entry in reversed(event.results) if REPORT not in entry and (s := _scores(entry))), None)
    return Marks.of(report_of(scores)) if scores else Marks()


def _scores(entry: dict[str, Any]) -> Scores | None:
    return Scores.read(entry.get("scores"))


def _without(event: JobFinished, reports: list[StageReport]) -> JobFinished:
    if not any(REPORT in entry for entry in event.results):
        return event
    if event.outcome.is_order:
        results = [{key: part for key, part in entry.items() if key != REPORT} for entry in event.results]
        return event.model_copy(update={"results": results})
    results = [_slim(event, stage, entry, reports) for stage, entry in enumerate(event.results)]
    return event.model_copy(update={"results": results})


def _slim(event: JobFinished, stage: int, entry: dict[str, Any], reports: list[StageReport]) -> dict[str, Any]:
    if REPORT not in entry:
        return entry
    try:
        reported = checked(entry[REPORT])
    except ValueError as error:
        problem = "the grader's report is not valid"
        log.warning("report not stored", stage=stage, reason=str(error), **event.context)
        return {**entry, REPORT: ReportNote(problem=problem).document()}
    reports.append(StageReport(event.job_id, event.execution_id, stage, reported))
    return {**entry, REPORT: ReportNote.of(reported).document()}


def checked(document: object) -> Reported:
    """Return a grader's report, whose files' bytes are those of their hashes.

    Raises:
        ValueError: The document is not a report; the text does not quote it.
    """
    try:
        reported = Reported.model_validate(document)
    except ValidationError as error:
        raise ValueError(mistakes(error, Reported)[0]) from None
    for file in reported.files:
        if file.data:
            file.compressed()
    return reported

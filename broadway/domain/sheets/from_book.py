"""Grades as the entries of sheets. Pure."""

from collections.abc import Mapping
from datetime import datetime

from broadway.domain.grade import Grade, GradeStatus
from broadway.domain.sheets.entries import Entry, EntryStatus

_STATUSES: Mapping[GradeStatus, EntryStatus] = {
    GradeStatus.GRADED: EntryStatus.GRADED,
    GradeStatus.WAITING: EntryStatus.UNGRADED,
    GradeStatus.ERROR: EntryStatus.ERROR,
    GradeStatus.NOT_COUNTED: EntryStatus.MISSING,
    GradeStatus.NOT_SUBMITTED: EntryStatus.MISSING,
    GradeStatus.EXCUSED: EntryStatus.EXCUSED,
}


def entry_of(
    grade: Grade,
    *,
    identifiers: Mapping[str, str],
    job: str = "",
    version: int | None = None,
    published_at: datetime | None = None,
) -> Entry:
    """Return a grade as the entry of a sheet. One that was checked without points has no score.

    Args:
        grade: The grade.
        identifiers: The student's names in other systems.
        job: The graded job.
        version: The version of the grade book that has the grade; None for a draft.
        published_at: The time at which the version was published.
    """
    status = _STATUSES[grade.status]
    if status is EntryStatus.GRADED and grade.points is None:
        status = EntryStatus.UNGRADED
    return Entry(
        student=grade.student,
        status=status,
        score=grade.points if status is EntryStatus.GRADED else None,
        maximum=grade.max,
        identifiers=identifiers,
        submitted_at=grade.submitted_at,
        late=grade.delay,
        late_days=grade.late_days,
        job=job,
        attempt=grade.number,
        version=version,
        published_at=published_at,
        feedback=" ".join(line.text for line in grade.lines),
    )

"""Grades as the entries of sheets, and the identifiers that a roster has for students. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from broadway.domain.grade import Grade, GradeStatus
from broadway.domain.roster import Roster
from broadway.domain.sheets.entries import Entry, EntryStatus, identifiers_of

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


def identifiers_in(
    roster: Roster | None, students: Sequence[str], *, extra: Sequence[str] = (), student_is: str | None = None
) -> Mapping[str, Mapping[str, str]]:
    """Return the identifiers of students, by student.

    The variables of a group are not those of its members: with one identifier for several students, an importer would
    give them the grade of the last one.

    Args:
        roster: The roster of the assignment, or None.
        students: The students.
        extra: The names of further variables that are identifiers.
        student_is: The identifier that the names of students are, for those without a variable of this name.
    """
    found: dict[str, Mapping[str, str]] = {}
    for student in students:
        entry = roster.of_person(student) if roster else None
        own = identifiers_of(entry.env, extra) if entry and not entry.members else {}
        found[student] = {student_is: student, **own} if student_is else own
    return found

"""The entries of sheets: the grade of each student, whatever has computed it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

# Names of identifiers that learning management systems know. A roster may have others.
STUDENT, NAME, FIRST_NAME, LAST_NAME, SECTION = "student", "name", "first_name", "last_name", "section"
EMAIL, USERNAME, SIS_ID, CANVAS_ID = "email", "username", "sis_id", "canvas_id"
ANY_CASE = (EMAIL, USERNAME)  # identifiers in which the case of letters does not count
IDENTIFIERS = (NAME, FIRST_NAME, LAST_NAME, SECTION, EMAIL, USERNAME, SIS_ID, CANVAS_ID)


class SheetError(ValueError):
    """A file is no sheet, or grades do not fit into one; the text names the row and the column, or the student."""


class EntryStatus(StrEnum):
    """The reason for a score, or for its absence.

    ``MISSING``: there is no submission that counts. ``UNGRADED``: no points yet, or none at all. ``ERROR``: an error of
    the infrastructure.
    """

    GRADED = "graded"
    MISSING = "missing"
    EXCUSED = "excused"
    UNGRADED = "ungraded"
    ERROR = "error"


OPEN: Mapping[EntryStatus, str] = {
    EntryStatus.UNGRADED: "there is no grade yet",
    EntryStatus.ERROR: "an error of the infrastructure: run the job again",
}


class Missing(StrEnum):
    """The cell of a student without a submission that counts.

    ``LEAVE`` leaves the cell of a merged file as it is, and is blank in a new file.
    """

    LEAVE = "leave"
    BLANK = "blank"
    ZERO = "zero"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The grade of one student. ``identifiers`` are the student's names in other systems, by the identifier's name.

    ``job`` is the graded job, ``attempt`` counts the student's submissions, ``version`` is that of the grade book.
    """

    student: str
    status: EntryStatus
    score: Decimal | None = None
    maximum: Decimal | None = None
    identifiers: Mapping[str, str] = field(default_factory=dict)
    submitted_at: datetime | None = None
    late: timedelta | None = None
    late_days: int | None = None
    job: str = ""
    attempt: int | None = None
    version: int | None = None
    published_at: datetime | None = None
    feedback: str = ""

    def __post_init__(self) -> None:
        if (self.status is EntryStatus.GRADED) != (self.score is not None):
            raise ValueError(f"{self.student}: expected a score if the status is graded, and none otherwise")

    def identifier(self, name: str) -> str:
        """Return an identifier, or an empty text. The student's id stands in for a missing user name."""
        if name == STUDENT:
            return self.student
        return self.identifiers.get(name, "") or (self.student if name == USERNAME else "")

    def full_name(self) -> str:
        """Return the name of the student, or an empty text."""
        parts = (self.identifiers.get(FIRST_NAME, ""), self.identifiers.get(LAST_NAME, ""))
        return self.identifiers.get(NAME, "") or " ".join(filter(None, parts))


def identifiers_of(variables: Mapping[str, Any], extra: Iterable[str] = ()) -> Mapping[str, str]:
    """Return the identifiers among the variables that a roster has for a student.

    Known names count in any case. Other variables may be secret, so only those in ``extra`` count, as they are written.
    Values that are neither texts nor whole numbers are no identifiers.
    """
    texts = {name: str(value) for name, value in variables.items() if type(value) in (str, int)}
    known = {name.casefold(): text for name, text in texts.items() if name.casefold() in IDENTIFIERS}
    return {**known, **{name: texts[name] for name in extra if name in texts}}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A student whose grade is not in the file, with the reason."""

    student: str
    reason: str


@dataclass(frozen=True, slots=True)
class Written:
    """A new file, the students that it could not name, those in it without a grade yet, and notes for staff."""

    data: bytes
    left_out: Sequence[LeftOut] = ()
    held: Sequence[LeftOut] = ()
    notes: Sequence[str] = ()

    def is_complete(self) -> bool:
        """Return whether every student is in the file, and every grade is known."""
        return not (self.left_out or self.held)


def held(grades: Iterable[Entry]) -> list[LeftOut]:
    """Return the students whose grade is still open, so that their cells are blank."""
    return [LeftOut(each.student, OPEN[each.status]) for each in grades if each.status in OPEN]


def errors(held_back: Iterable[LeftOut]) -> int:
    """Return the number of students without a grade for an error of the infrastructure."""
    return sum(each.reason == OPEN[EntryStatus.ERROR] for each in held_back)


def distinct(grades: Sequence[Entry]) -> Sequence[Entry]:
    """Return grades if no student has two.

    Raises:
        SheetError: A student has two.
    """
    seen: set[str] = set()
    for grade in grades:
        if grade.student in seen:
            raise SheetError(f"{grade.student}: expected one grade of each student, not two")
        seen.add(grade.student)
    return grades


def excess(grades: Sequence[Entry], maximum: Decimal | None) -> list[str]:
    """Return a note for staff if scores are above the maximum."""
    count = sum(grade.score is not None and maximum is not None and grade.score > maximum for grade in grades)
    return [f"scores above the maximum, which the system may cut or refuse: {count}"] if count else []

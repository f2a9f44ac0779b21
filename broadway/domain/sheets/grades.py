"""The grades of an assignment as sheets take them, whatever has computed them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

# Names of identifiers that learning management systems know. A roster may have others.
STUDENT, NAME, FIRST_NAME, LAST_NAME, SECTION = "student", "name", "first_name", "last_name", "section"
EMAIL, USERNAME, SIS_ID, CANVAS_ID = "email", "username", "sis_id", "canvas_id"
IDENTIFIERS = (NAME, FIRST_NAME, LAST_NAME, SECTION, EMAIL, USERNAME, SIS_ID, CANVAS_ID)


class SheetError(ValueError):
    """A file is no sheet, or grades do not fit into one; the text names the row and the column, or the student."""


class GradeStatus(StrEnum):
    """The reason for a score, or for its absence.

    ``MISSING``: nothing was submitted. ``UNGRADED``: no grade yet. ``ERROR``: an error of the infrastructure.
    """

    GRADED = "graded"
    MISSING = "missing"
    EXCUSED = "excused"
    UNGRADED = "ungraded"
    ERROR = "error"


class Missing(StrEnum):
    """The cell of a student who submitted nothing.

    ``LEAVE`` leaves the cell of a merged file as it is, and is blank in a new file.
    """

    LEAVE = "leave"
    BLANK = "blank"
    ZERO = "zero"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """The grade of one student. ``identifiers`` are the student's names in other systems, by the identifier's name.

    ``job`` is the graded job, ``attempt`` counts the student's submissions, ``version`` is that of the grade book.
    """

    student: str
    status: GradeStatus
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
        if (self.status is GradeStatus.GRADED) != (self.score is not None):
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
    """
    known = {name.casefold(): str(value) for name, value in variables.items() if name.casefold() in IDENTIFIERS}
    return {**known, **{name: str(variables[name]) for name in extra if name in variables}}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A student whose grade is not in the file, with the reason."""

    student: str
    reason: str


@dataclass(frozen=True, slots=True)
class Written:
    """A new file, the students that it could not name, and notes for staff."""

    data: bytes
    left_out: Sequence[LeftOut] = ()
    notes: Sequence[str] = ()


def distinct(grades: Sequence[Grade]) -> Sequence[Grade]:
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


def excess(grades: Sequence[Grade], maximum: Decimal | None) -> list[str]:
    """Return a note for staff if scores are above the maximum."""
    count = sum(grade.score is not None and maximum is not None and grade.score > maximum for grade in grades)
    return [f"scores above the maximum, which the system may cut or refuse: {count}"] if count else []

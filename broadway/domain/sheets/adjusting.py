"""The plain CSV read again: the adjustments that staff made to it in a spreadsheet, as a preview. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from broadway.domain.formulas import restored
from broadway.domain.sheets.cells import Row, folded, opened, rows, separator_of
from broadway.domain.sheets.entries import STUDENT, Entry, EntryStatus, LeftOut, SheetError, distinct
from broadway.domain.sheets.matching import UnmatchedRow
from broadway.domain.sheets.numbers import points_in
from broadway.domain.sheets.writing import PLAIN_COLUMNS

SCORE, STATUS, JOB, VERSION, REASON = "score", "status", "job", "version", "reason"
MAX_REASON = 4000  # characters
MAX_NUMBER = 9  # digits of a version
_USED = (STUDENT, SCORE, STATUS, JOB, VERSION, REASON)
_THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}")


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A score that differs from the grade; ``after`` is None if the cell is empty.

    ``excused``: the row has the status of excused students, and the grade does not. ``job`` is the graded job that the
    row names; None if the file names no jobs.
    """

    row: int
    student: str
    before: Decimal | None
    after: Decimal | None
    reason: str
    excused: bool = False
    job: str | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """The adjustments in a file. Students that it does not name keep their grades."""

    adjustments: Sequence[Adjustment]
    same: int
    unknown: Sequence[UnmatchedRow]
    absent: Sequence[LeftOut]


def preview(data: bytes, grades: Sequence[Entry], *, encoding: str = "utf-8") -> Preview:
    """Compare a file with grades; it needs the columns student and score, and may have one named reason.

    Raises:
        SheetError: The file is no such sheet; a score is no number; a student has two rows.
    """
    of_student = {grade.student: grade for grade in distinct(grades)}
    sheet = _Sheet.opened(data, encoding)
    adjustments: list[Adjustment] = []
    unknown: list[UnmatchedRow] = []
    seen: dict[str, int] = {}
    for row, student in _students(sheet, seen):
        grade = of_student.get(student)
        if grade is None:
            sheet.score(row)
            unknown.append(UnmatchedRow(row.number, student[:200], "no grade is of this student"))
        elif adjustment := _adjustment(sheet, row, grade):
            adjustments.append(adjustment)
    absent = [LeftOut(student, "the file has no row of this student") for student in of_student if student not in seen]
    return Preview(adjustments, len(seen) - len(adjustments) - len(unknown), unknown, absent)


def version_in(data: bytes, *, encoding: str = "utf-8") -> int | None:
    """Return the version of the grade book from which a file was made; None for a draft, or if the file does not say.

    Raises:
        SheetError: The file is no such sheet, or names several versions.
    """
    sheet = _Sheet.opened(data, encoding)
    found = {text: row for row in sheet.rows if not row.is_blank() and (text := sheet.text(row, VERSION))}
    if len(found) > 1:
        raise SheetError(f"column {VERSION}: expected one version, not {', '.join(list(found)[:5])[:100]}")
    for text, row in found.items():
        if not (text.isascii() and text.isdecimal() and len(text) <= MAX_NUMBER):
            raise SheetError(_where(row, sheet.columns[VERSION], f"expected a version such as 3, not {text[:50]!r}"))
        return int(text)
    return None


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The rows of a file below its first one, and the places of its columns by name."""

    rows: Iterator[Row]
    columns: Mapping[str, int]
    separator: str

    @classmethod
    def opened(cls, data: bytes, encoding: str) -> Self:
        text = opened(data, encoding=encoding).text
        separator = separator_of(text, (*PLAIN_COLUMNS, REASON))
        every = rows(text, separator)
        return cls(every, _columns(next(every)), separator)

    def text(self, row: Row, name: str) -> str:
        """Return the text of a cell, which is empty without such a column."""
        return row.cell(self.columns[name]).strip() if name in self.columns else ""

    def score(self, row: Row) -> Decimal | None:
        return _score(row, self.columns[SCORE], self.separator)


def _adjustment(sheet: _Sheet, row: Row, grade: Entry) -> Adjustment | None:
    after, reason = sheet.score(row), sheet.text(row, REASON)
    says_excused = after is None and sheet.text(row, STATUS).casefold() == EntryStatus.EXCUSED
    excused = says_excused and grade.status is not EntryStatus.EXCUSED
    if after == grade.score and not excused:
        return None
    if len(reason) > MAX_REASON:
        raise SheetError(_where(row, sheet.columns[REASON], f"expected at most {MAX_REASON} characters"))
    job = restored(sheet.text(row, JOB)) if JOB in sheet.columns else None
    return Adjustment(row.number, grade.student, grade.score, after, restored(reason), excused, job)


def _columns(header: Row) -> Mapping[str, int]:
    columns: dict[str, int] = {}
    for place, cell in enumerate(header.cells()):
        name = folded(cell)
        if name in columns and name in _USED:
            raise SheetError(f"row 1, column {place + 1}: the column {name} is there twice")
        columns[name] = place
    for name in (STUDENT, SCORE):
        if name not in columns:
            raise SheetError(f"row 1: expected a column named {name}; found {', '.join(header.cells()[:20])[:500]}")
    return columns


def _students(sheet: _Sheet, seen: dict[str, int]) -> Iterator[tuple[Row, str]]:
    column = sheet.columns[STUDENT]
    for row in sheet.rows:
        if row.is_blank():
            continue
        student = restored(row.cell(column))
        if not student.strip():
            raise SheetError(_where(row, column, "expected a student"))
        if student in seen:
            raise SheetError(_where(row, column, f"{student[:200]} is in row {seen[student]}, too"))
        seen[student] = row.number
        yield row, student


def _score(row: Row, column: int, separator: str) -> Decimal | None:
    cell = row.cell(column).strip()
    if not cell:
        if column >= len(row):
            raise SheetError(_where(row, column, "expected a score or an empty cell; the row is too short"))
        return None
    points = points_in(cell)
    is_unclear = "," in cell and (separator == "," or (separator == "\t" and _THOUSANDS.fullmatch(cell)))
    if points is None or is_unclear:
        raise SheetError(_where(row, column, f"expected a number such as 17.5 or an empty cell, not {cell[:50]!r}"))
    return points


def _where(row: Row, column: int, problem: str) -> str:
    return f"row {row.number}, column {column + 1}: {problem}"

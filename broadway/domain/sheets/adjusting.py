"""The plain CSV read again: the adjustments that staff made to it in a spreadsheet, as a preview. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from broadway.domain.sheets.cells import Row, folded, opened, rows, separator_of
from broadway.domain.sheets.entries import STUDENT, Entry, LeftOut, SheetError, distinct
from broadway.domain.sheets.formulas import restored
from broadway.domain.sheets.matching import UnmatchedRow
from broadway.domain.sheets.numbers import points_in
from broadway.domain.sheets.writing import PLAIN_COLUMNS

SCORE, REASON = "score", "reason"
MAX_REASON = 4000  # characters
_THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}")


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A score that differs from the grade; ``after`` is None if the cell was emptied."""

    row: int
    student: str
    before: Decimal | None
    after: Decimal | None
    reason: str


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
    text = opened(data, encoding=encoding).text
    separator = separator_of(text, (*PLAIN_COLUMNS, REASON))
    every = rows(text, separator)
    columns = _columns(next(every))
    adjustments: list[Adjustment] = []
    unknown: list[UnmatchedRow] = []
    seen: dict[str, int] = {}
    for row, student in _students(every, columns[STUDENT], seen):
        grade = of_student.get(student)
        after = _score(row, columns[SCORE], separator)
        if grade is None:
            unknown.append(UnmatchedRow(row.number, student[:200], "no grade is of this student"))
        elif after != grade.score:
            reason = row.cell(columns[REASON]).strip() if REASON in columns else ""
            if len(reason) > MAX_REASON:
                raise SheetError(_where(row, columns[REASON], f"expected at most {MAX_REASON} characters"))
            adjustments.append(Adjustment(row.number, student, grade.score, after, reason))
    absent = [LeftOut(student, "the file has no row of this student") for student in of_student if student not in seen]
    return Preview(adjustments, len(seen) - len(adjustments) - len(unknown), unknown, absent)


def _columns(header: Row) -> Mapping[str, int]:
    columns: dict[str, int] = {}
    for place, cell in enumerate(header.cells()):
        name = folded(cell)
        if name in columns and name in (STUDENT, SCORE, REASON):
            raise SheetError(f"row 1, column {place + 1}: the column {name} is there twice")
        columns[name] = place
    for name in (STUDENT, SCORE):
        if name not in columns:
            raise SheetError(f"row 1: expected a column named {name}; found {', '.join(header.cells()[:20])[:500]}")
    return columns


def _students(every: Iterator[Row], column: int, seen: dict[str, int]) -> Iterator[tuple[Row, str]]:
    for row in every:
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

"""The text of a student's cell in the chosen column of an existing file. Pure."""

from decimal import Decimal

from broadway.domain.sheets.entries import OPEN, Entry, EntryStatus, LeftOut, Missing
from broadway.domain.sheets.numbers import points_in, rounded, written
from broadway.domain.sheets.shapes import Shape

_EXCUSED = "excused, for which this file has no sign"


class CellRules:
    """The rules of a file's shape and of a merge. They never replace a cell by an equal one."""

    def __init__(self, shape: Shape, *, missing: Missing, comma: bool) -> None:
        self._shape, self._missing, self._comma = shape, missing, comma
        self._rounded = self._left = 0

    def after(self, grade: Entry, before: str) -> str | LeftOut:
        """Return the text of a student's cell, or the reason for leaving it as it is."""
        cell, excused = before.strip(), self._shape.excused
        if self._shape.unassigned and cell == self._shape.unassigned:
            return LeftOut(grade.student, f"the file says {cell}: the assignment is not for this student")
        if grade.score is not None:
            return self._number(grade.score, before)
        if grade.status is EntryStatus.MISSING:
            return self._of_missing(before)
        if grade.status is EntryStatus.EXCUSED and excused:
            return before if cell.casefold() == excused.casefold() else excused
        return LeftOut(grade.student, OPEN.get(grade.status, _EXCUSED))

    def notes(self) -> list[str]:
        """Return notes for staff on all cells so far."""
        notes = [f"scores rounded to {self._shape.places} decimals: {self._rounded}"] if self._rounded else []
        if self._left:
            notes.append(f"students without a submission that counts, whose cells stay as they are: {self._left}")
        return notes

    def _number(self, score: Decimal, before: str) -> str:
        value = rounded(score, self._shape.places)
        self._rounded += value != score
        return before if points_in(before) == value else written(value, comma=self._comma)

    def _of_missing(self, before: str) -> str:
        if self._missing is Missing.ZERO:
            return self._number(Decimal(0), before)
        self._left += self._missing is Missing.LEAVE
        return "" if self._missing is Missing.BLANK else before

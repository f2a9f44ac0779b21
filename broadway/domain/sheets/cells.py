"""The cells of a sheet as places in its text, so that one of them can be replaced and all else stays as it is. Pure.

Rows count from 1 and include the header and blank lines, as in a spreadsheet; columns count from 1 in texts for people.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from broadway.domain.course import MAX_STUDENTS
from broadway.domain.sheets.entries import SheetError
from broadway.domain.text_files import Decoded, TextFileError, decoded

MAX_BYTES = 16 * 1024 * 1024
MAX_ROWS = MAX_STUDENTS + 100
MAX_COLUMNS = 2000
MAX_CELLS = 2_000_000
MAX_CELL = 100_000  # characters
SEPARATORS = (",", ";", "\t")  # spreadsheets write semicolons where the comma is the decimal sign

_OTHERS = {
    b"pk\x03\x04": "a workbook of a spreadsheet or a zip",
    b"\xd0\xcf\x11\xe0": "a workbook of an old spreadsheet",
    b"<html": "a web page",
    b"<!doctype": "a web page",
    b"%pdf": "a PDF",
}
_EMPTY = ' "' + "".join(SEPARATORS)
_END = re.compile(r"\r\n|\r|\n|\Z")
_QUOTED = re.compile(r'"(?:[^"]++|"")*+"')
_UNQUOTED = {separator: re.compile(rf"[^{separator}\r\n]*+") for separator in SEPARATORS}


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its number, and where in the text its cells begin and end, with their quotes."""

    number: int
    text: str
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.spans)

    def cell(self, column: int) -> str:
        """Return the text of a cell without its quotes; a cell that the row does not have is empty."""
        if column >= len(self.spans):
            return ""
        start, end = self.spans[column]
        raw = self.text[start:end]
        return raw[1:-1].replace('""', '"') if raw.startswith('"') else raw

    def cells(self) -> list[str]:
        """Return the texts of all cells."""
        return [self.cell(column) for column in range(len(self))]

    def is_blank(self) -> bool:
        """Return whether the row has blanks, quotes and separators only."""
        return not self.text[self.spans[0][0] : self.spans[-1][1]].strip(_EMPTY)


@dataclass(frozen=True, slots=True)
class Replacement:
    """A new text for the cell at a place."""

    span: tuple[int, int]
    text: str


def opened(data: bytes, *, encoding: str) -> Decoded:
    """Return the text of a sheet's bytes.

    Raises:
        SheetError: It is too large, or no text in the encoding.
    """
    if len(data) > MAX_BYTES:
        raise SheetError(f"expected a file of at most {MAX_BYTES // 2**20} MiB")
    for beginning, kind in _OTHERS.items():
        if data[: len(beginning)].lower() == beginning:
            raise SheetError(f"expected CSV, not {kind}; export CSV, or save the file as CSV")
    try:
        return decoded(data, encoding=encoding)
    except TextFileError as error:
        raise SheetError(f"{error}, or name its encoding") from error


def rows(text: str, separator: str) -> Iterator[Row]:
    """Yield the rows of a sheet.

    Raises:
        SheetError: A quote is not closed, or there is too much of something.
    """
    place, number, count = 0, 0, 0
    while place < len(text):
        number += 1
        if number > MAX_ROWS:
            raise SheetError(f"row {number}: expected at most {MAX_ROWS} rows")
        spans, place = _row(text, place, separator, number)
        count += len(spans)
        if count > MAX_CELLS:
            raise SheetError(f"row {number}, column {len(spans)}: expected at most {MAX_CELLS} cells in a file")
        yield Row(number, text, tuple(spans))


def _row(text: str, place: int, separator: str, number: int) -> tuple[list[tuple[int, int]], int]:
    """Return the cells of the row that begins at a place, and the beginning of the next row."""
    spans: list[tuple[int, int]] = []
    unquoted = _UNQUOTED[separator]
    while True:
        if len(spans) == MAX_COLUMNS:
            raise SheetError(f"row {number}, column {MAX_COLUMNS + 1}: expected at most {MAX_COLUMNS} columns")
        end = _end_of_cell(text, place, unquoted, (number, len(spans) + 1))
        spans.append((place, end))
        if not text.startswith(separator, end):
            last = _END.match(text, end)
            if last is None:
                raise SheetError(f"row {number}, column {len(spans)}: a quoted cell has text after its last quote")
            return spans, last.end()
        place = end + 1


def _end_of_cell(text: str, place: int, unquoted: re.Pattern[str], where: tuple[int, int]) -> int:
    match = (_QUOTED if text.startswith('"', place) else unquoted).match(text, place)
    if match is None:
        raise SheetError(f"row {where[0]}, column {where[1]}: the quote at its beginning is never closed")
    if match.end() - place > MAX_CELL:
        raise SheetError(f"row {where[0]}, column {where[1]}: expected at most {MAX_CELL} characters")
    return match.end()


def separator_of(text: str, known: Iterable[str]) -> str:
    """Return the separator with which the first row has the most known names, or else the most cells.

    Raises:
        SheetError: The first row is empty or no row.
    """
    names = set(known)
    found, problem = [], SheetError("row 1: expected the names of columns, not an empty row")
    for separator in SEPARATORS:
        try:
            first = next(rows(text, separator), None)
        except SheetError as error:
            problem = error
        else:
            if first and not first.is_blank():
                found.append((sum(folded(cell) in names for cell in first.cells()), len(first), separator))
    if not found:
        raise problem
    return max(found, key=lambda each: each[:2])[2]  # the first of equal ones


def folded(name: str) -> str:
    """Return a column's name without differences of case and of blanks."""
    return " ".join(name.casefold().split())


def replaced(text: str, replacements: Iterable[Replacement], separator: str) -> str:
    """Return a text with other cells, in order of their places. A cell that has quotes keeps them."""
    parts, place = [], 0
    for each in replacements:
        start, end = each.span
        is_quoted = text.startswith('"', start) or any(mark in each.text for mark in (separator, '"', "\r", "\n"))
        quoted = f'"{each.text.replace(chr(34), chr(34) * 2)}"' if is_quoted else each.text
        parts += [text[place:start], quoted]
        place = end
    return "".join([*parts, text[place:]])

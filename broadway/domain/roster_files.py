"""Rosters as files: JSON in the form of the API, or CSV for course staff."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from broadway.domain.mistakes import mistakes
from broadway.domain.roster import Roster
from broadway.domain.text_files import TextFileError, json_of


class RosterError(ValueError):
    """A file that is not a valid roster; the text names the line or the field."""


_LISTS = ("members", "labels")  # columns with several names in a cell
_OWN = ("student", "repository", "repository_id", *_LISTS)
_DELIMITERS = (",", ";", "\t")  # spreadsheets write semicolons where the comma is the decimal sign
_LONGEST_CELL = 2**20  # characters
_MOST_COLUMNS = 1000
_SHOWN = 20  # columns in an error


def read_roster(text: str, *, is_json: bool) -> Roster:
    """Read a roster. CSV columns without a meaning in rosters become variables of the students' jobs.

    Raises:
        RosterError: The text is not a valid roster.
    """
    try:
        return Roster.model_validate(json_of(text) if is_json else {"students": _students(text)})
    except ValidationError as error:
        raise RosterError(mistakes(error, Roster)[0]) from error
    except TextFileError as error:
        raise RosterError(str(error)) from error


def _students(text: str) -> list[dict[str, Any]]:
    head, *rows = _lines(text)
    names = _columns(head[1], [cells for _, cells in rows])
    for number, cells in rows:
        if len(cells) != len(names):
            raise RosterError(f"line {number}: expected {len(names)} columns, as in the first line, not {len(cells)}")
    students = [_entry(dict(zip(names, cells, strict=True))) for _, cells in rows]
    for name in ("repository", "repository_id"):
        if name in names and students and not any(name in student for student in students):
            raise RosterError(f"column {name}: no line has a value, so no push would match; fill it or remove it")
    if not students:
        raise RosterError("line 2: expected a student; the file has a header only")
    return students


def _lines(text: str) -> list[tuple[int, list[str]]]:
    """Return the lines that are not empty, each with its number and its cells, without blanks around them."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        found = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise RosterError(f"line {reader.line_num}: expected CSV: {error}") from error
    lines = [(number, cells) for number, cells in found if any(cells)]
    if not lines:
        raise RosterError("line 1: expected a header with a column named student; the file is empty")
    return lines


def _columns(head: Sequence[str], rows: Sequence[list[str]]) -> list[str]:
    """Return the names of the columns; a roster's own are recognized in any case and without underscores, too."""
    names = [_own(name) or name for name in head]
    _drop_empty_columns(names, rows)
    if len(names) > _MOST_COLUMNS:
        raise RosterError(f"line 1: expected at most {_MOST_COLUMNS} columns, not {len(names)}")
    if "student" not in names:
        raise RosterError(f"line 1: expected a column named student{_meant('student', head)}; found {_shown(head)}")
    for place, name in enumerate(names):
        if not name:
            raise RosterError(f"line 1: column {place + 1} has no name")
        if name in names[:place]:
            raise RosterError(f"line 1: the column {name} is there twice")
        if meant := _misspelled(name, names):
            raise RosterError(f"line 1: column {name}: did you mean {meant}? Otherwise name the variable differently")
    return names


def _shown(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(name[:100] for name in names[:_SHOWN]) + more


def _drop_empty_columns(names: list[str], rows: Sequence[list[str]]) -> None:
    """Remove the columns at the end without a name and without a value, which spreadsheets leave."""
    while names and not names[-1] and not any(cell for row in rows for cell in row[len(names) - 1 :]):
        names.pop()
        for row in rows:
            del row[len(names) :]


def _own(name: str) -> str | None:
    plain = name.casefold().replace(" ", "_").replace("-", "_")
    return next((own for own in _OWN if plain in (own, own.replace("_", ""))), None)


def _misspelled(name: str, names: Sequence[str]) -> str | None:
    """Return the column of a roster that a name probably means; a variable's name is in capitals by convention."""
    if name in _OWN or name.isupper():
        return None
    missing = [own for own in _OWN if own not in names]
    return next(iter(get_close_matches(name.casefold(), missing, n=1, cutoff=0.8)), None)


def _meant(own: str, head: Sequence[str]) -> str:
    close = get_close_matches(own, [name.casefold() for name in head], n=1, cutoff=0.7)
    return f" (did you mean that by {close[0]}?)" if close else ""


def _entry(row: Mapping[str, str]) -> dict[str, Any]:
    own = {key: _names(row[key]) if key in _LISTS else row[key] for key in _OWN if row.get(key)}
    return {**own, "env": {key: value for key, value in row.items() if key not in _OWN}}


def _names(cell: str) -> list[str]:
    """Return the names in a cell, with semicolons or commas between them."""
    return [name.strip() for name in re.split("[;,]", cell) if name.strip()]

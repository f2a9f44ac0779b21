"""Rosters as files: JSON in the form of the API, or CSV for course staff."""

import csv
import io
from typing import Any

from pydantic import ValidationError

from broadway.domain.roster import Roster


class RosterError(ValueError):
    """A file that is not a valid roster; the text names the line or the field."""


_OWN = ("student", "repository", "repository_id")


def read_roster(text: str, *, is_json: bool) -> Roster:
    """Read a roster. CSV columns without a meaning in rosters become variables of the students' jobs.

    Raises:
        RosterError: The text is not a valid roster.
    """
    try:
        if is_json:
            return Roster.model_validate_json(text)
        return Roster.model_validate({"students": [_entry(row) for row in _rows(text)]})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RosterError(f"{where}: {first['msg']}" if where else first["msg"]) from error


def _rows(text: str) -> list[dict[str | None, Any]]:
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), skipinitialspace=True)
    if "student" not in (reader.fieldnames or []):
        raise RosterError("line 1: expected a column named student")
    rows = list(reader)
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise RosterError(f"line {number}: expected {len(reader.fieldnames or [])} columns")
    return rows


def _entry(row: dict[str | None, Any]) -> dict[str, Any]:
    own = {key: row[key] for key in _OWN if row.get(key)}
    return {**own, "env": {key: value for key, value in row.items() if key not in _OWN}}

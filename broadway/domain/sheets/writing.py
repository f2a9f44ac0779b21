"""New files of grades: plain CSV and JSON lines, and the list of all that a merge could not match. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from broadway.domain.formulas import defused, on_a_line
from broadway.domain.sheets.entries import Entry, EntryStatus, LeftOut, Missing, Written, distinct, held
from broadway.domain.sheets.merging import Merged
from broadway.domain.sheets.numbers import written

PLAIN_COLUMNS = (
    "student",
    "score",
    "max",
    "status",
    "submitted_at",
    "late_days",
    "job",
    "attempt",
    "version",
    "published_at",
)


def csv_bytes(rows: Iterable[Sequence[str]], *, separator: str = ",") -> bytes:
    """Return rows as CSV in UTF-8, without a byte order mark, which LMS take for a part of the first name.

    Python's ``csv`` leaves a carriage return without quotes, and many readers begin a row there.
    """
    marks = (separator, '"', "\n", "\r")

    def cell(text: str) -> str:
        return f'"{text.replace(chr(34), chr(34) * 2)}"' if any(mark in text for mark in marks) else text

    return "".join(f"{separator.join(map(cell, row))}\n" for row in rows).encode()


def score_of(grade: Entry, missing: Missing) -> Decimal | None:
    """Return the score to write, or None for a blank."""
    is_zero = grade.status is EntryStatus.MISSING and missing is Missing.ZERO
    return Decimal(0) if is_zero else grade.score


def plain_csv(grades: Sequence[Entry], *, missing: Missing = Missing.LEAVE, comma: bool = False) -> Written:
    """Return grades as plain CSV, which ``adjusting.preview`` reads; with decimal commas, semicolons separate."""

    def cell(value: Decimal | str | int | None) -> str:
        return written(value, comma=comma) if isinstance(value, Decimal) else "" if value is None else str(value)

    named = [grade for grade in distinct(grades) if "\0" not in grade.student]
    left_out = [LeftOut(each.student, "NUL is no part of a text file") for each in grades if "\0" in each.student]
    rows = [[cell(value) for value in _facts(grade, missing).values()] for grade in named]
    for row in rows:
        row[0] = defused(row[0])
    return Written(csv_bytes([PLAIN_COLUMNS, *rows], separator=";" if comma else ","), left_out, held(grades))


def json_lines(grades: Sequence[Entry], *, missing: Missing = Missing.LEAVE) -> Written:
    """Return grades as JSON objects, one a line. Points are numbers with all their digits."""
    lines = [_object({**_facts(grade, missing), "identifiers": grade.identifiers}) for grade in distinct(grades)]
    return Written("".join(f"{line}\n" for line in lines).encode(), held=held(grades))


def _facts(grade: Entry, missing: Missing) -> Mapping[str, Decimal | str | int | None]:
    values = (
        grade.student,
        score_of(grade, missing),
        grade.maximum,
        grade.status.value,
        _time(grade.submitted_at),
        grade.late_days,
        grade.job or None,
        grade.attempt,
        grade.version,
        _time(grade.published_at),
    )
    return dict(zip(PLAIN_COLUMNS, values, strict=True))


def _time(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None


def _object(values: Mapping[str, Decimal | str | int | Mapping[str, str] | None]) -> str:
    parts = [
        f"{json.dumps(key)}: {written(value) if isinstance(value, Decimal) else json.dumps(_jsonable(value))}"
        for key, value in values.items()
    ]
    return "{" + ", ".join(parts) + "}"


def _jsonable(value: str | int | Mapping[str, str] | None) -> str | int | dict[str, str] | None:
    return dict(value) if isinstance(value, Mapping) else value


def unmatched_csv(merged: Merged) -> bytes:
    """Return the students without a row and the rows without a grade, as CSV for staff."""
    return csv_bytes(
        [
            ("missing_in", "student", "row", "row_text", "reason"),
            *(("file", on_a_line(each.student), "", "", on_a_line(each.reason)) for each in merged.unmatched_students),
            *(
                ("grades", "", str(each.row), on_a_line(each.label), on_a_line(each.reason))
                for each in merged.unmatched_rows
            ),
        ]
    )

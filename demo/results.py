"""What became of the class, as a table, each row compared with what should have become of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from demo.submissions import Expected

Row = dict[str, Any]

COLUMNS = ("student", "outcome", "seconds", "expected", "why", "the submission")
_STYLES = {"succeeded": "green", "failed": "yellow"}


def table(rows: Sequence[Row], expected: Mapping[str, Expected]) -> Table:
    """A line for each student of the roster, whether or not Broadway has one."""
    by_student = {row["student"]: row for row in rows}
    result = Table(*COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in result.columns[:4]:  # the others give way where the terminal is narrow
        column.no_wrap = True
    result.columns[2].justify = "right"
    for student, wanted in expected.items():
        result.add_row(*_cells(student, by_student.get(student), wanted))
    return result


def _cells(student: str, row: Row | None, wanted: Expected) -> tuple[str | Text, ...]:
    if row is None:
        return student, "", "", Text("no job", style="bold red"), "", wanted.why
    right = row["outcome"] == wanted.outcome
    mark = Text("yes", style="green") if right else Text(f"no: {_plain(wanted.outcome)}", style="bold red")
    outcome = Text(_plain(row["outcome"]), style=_STYLES.get(row["outcome"], "magenta"))
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
    return student, outcome, seconds, mark, Text(why(row)), wanted.why


def why(row: Row) -> str:
    """The exercise's own account when there is one, Broadway's otherwise."""
    says = row["score"] if row["outcome"] in _STYLES and row["score"] else row["reason"] or ""
    again = f" ({row['attempts']} attempts)" if row.get("attempts", 1) > 1 else ""
    return f"{says}{again}"


def as_expected(rows: Sequence[Row], expected: Mapping[str, Expected]) -> int:
    """How many students of the roster have the outcome that they should have."""
    outcomes = {row["student"]: row["outcome"] for row in rows}
    return sum(outcomes.get(student) == wanted.outcome for student, wanted in expected.items())


def _plain(outcome: str) -> str:
    return outcome.replace("_", " ")

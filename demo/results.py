"""The results of the class as a table, each row compared with the expected outcome."""

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
    """Return a table with a line for each student of the roster, also for those without a job."""
    by_student = {row["student"]: row for row in rows}
    result = Table(*COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in result.columns[:4]:  # the other columns wrap on a narrow terminal
        column.no_wrap = True
    result.columns[2].justify = "right"
    for student, expectation in expected.items():
        result.add_row(*_cells(student, by_student.get(student), expectation))
    return result


def _cells(student: str, row: Row | None, expectation: Expected) -> tuple[str | Text, ...]:
    if row is None:
        return student, "", "", Text("no job", style="bold red"), "", expectation.why
    right = row["outcome"] == expectation.outcome
    mark = Text("yes", style="green") if right else Text(f"no: {_plain(expectation.outcome)}", style="bold red")
    outcome = Text(_plain(row["outcome"]), style=_STYLES.get(row["outcome"], "magenta"))
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
    return student, outcome, seconds, mark, Text(why(row)), expectation.why


def why(row: Row) -> str:
    """Return the exercise's own explanation if there is one, Broadway's otherwise."""
    text = row["score"] if row["outcome"] in _STYLES and row["score"] else row["reason"] or ""
    again = f" ({row['attempts']} attempts)" if row.get("attempts", 1) > 1 else ""
    return f"{text}{again}"


def as_expected(rows: Sequence[Row], expected: Mapping[str, Expected]) -> int:
    """Return the number of students of the roster with the expected outcome."""
    outcomes = {row["student"]: row["outcome"] for row in rows}
    return sum(outcomes.get(student) == expectation.outcome for student, expectation in expected.items())


def _plain(outcome: str) -> str:
    return outcome.replace("_", " ")

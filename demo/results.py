"""The results of the class as a table, each row compared with the expected one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from rich import box
from rich.table import Table
from rich.text import Text

from broadway.client import JobDescription
from demo.submissions import Expected

COLUMNS = ("student", "outcome", "score", "of", "seconds", "expected", "the submission", "reason")
_STYLES = {"succeeded": "green", "failed": "yellow"}


@dataclass(frozen=True)
class Row:
    """The result of a student's job."""

    student: str
    outcome: str
    score: float | None = None
    max_score: float | None = None
    seconds: float | None = None
    reason: str = ""
    attempts: int = 1
    job: str = ""

    @classmethod
    def of(cls, job: JobDescription) -> Self:
        return cls(
            student=job.student or "",
            outcome=job.outcome or job.state,
            score=job.score,
            max_score=job.max_score,
            seconds=job.seconds,
            reason=job.reason,
            attempts=job.attempts,
            job=job.id,
        )

    def is_as(self, expected: Expected) -> bool:
        """Return whether the result is the expected one."""
        return (self.outcome, self.score) == (expected.outcome, expected.score)


def table(rows: Sequence[Row], expected: Mapping[str, Expected]) -> Table:
    """Return a table with a line for each expected student, also for those without a job."""
    by_student = {row.student: row for row in rows}
    result = Table(*COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in result.columns[:6]:  # the other columns wrap on a narrow terminal
        column.no_wrap = True
    for column in result.columns[2:5]:
        column.justify = "right"
    for student, expectation in expected.items():
        result.add_row(*_cells(student, by_student.get(student), expectation))
    return result


def as_expected(rows: Sequence[Row], expected: Mapping[str, Expected]) -> int:
    """Return the number of students with the expected result."""
    by_student = {row.student: row for row in rows}
    return sum(student in by_student and by_student[student].is_as(each) for student, each in expected.items())


def _cells(student: str, row: Row | None, expectation: Expected) -> tuple[str | Text, ...]:
    if row is None:
        return student, "", "", "", "", Text("no job", style="bold red"), expectation.why, ""
    wanted = _plain(expectation.outcome) + ("" if expectation.score is None else f", {expectation.score}")
    mark = Text("yes", style="green") if row.is_as(expectation) else Text(f"no: {wanted}", style="bold red")
    outcome = Text(_plain(row.outcome), style=_STYLES.get(row.outcome, "magenta"))
    again = f" ({row.attempts} attempts)" if row.attempts > 1 else ""
    numbers = _number(row.score), _number(row.max_score), "" if row.seconds is None else f"{row.seconds:.1f}"
    return student, outcome, *numbers, mark, expectation.why, Text(f"{row.reason}{again}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _plain(outcome: str) -> str:
    return outcome.replace("_", " ")

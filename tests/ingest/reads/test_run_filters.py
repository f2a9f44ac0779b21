"""Rows of a run: filters, order, pages and summaries."""

from dataclasses import replace
from decimal import Decimal

import pytest

from broadway.domain.job import JobState, Phase
from broadway.domain.pages import ROWS
from broadway.domain.status_line import StatusLine, Tone
from broadway.ingest.reads.run_filters import Filter, Sort, rows_of, summary_of, words_of_filter
from broadway.ingest.reads.run_tables import RunRow

GRADED = StatusLine(Tone.GOOD, "graded")
BROKEN = StatusLine(Tone.STUDENT, "not gradable", "undefined reference\nand more")
BASE = RunRow("a", Phase.STUDENTS.value, 0, JobState.FINISHED, "ada", GRADED, 1, "g1", 2.0, 3.0, None)


def row(student: str, **more: object) -> RunRow:
    return replace(BASE, id=student, student=student, **more)  # type: ignore[arg-type]


ROWS_OF_ALL = [
    row("ada", score=Decimal(20), max=Decimal(20), index=0),
    row("Bob", score=Decimal(5), max=Decimal(20), failed=("leak",), grader="g2", seconds=9.0, index=1),
    row("cyd", status=BROKEN, seconds=1.0, waited=50.0, index=2),
    row("dan", state=JobState.QUEUED, status=StatusLine(Tone.WAITING, "queued"), seconds=None, waited=None, index=3),
]


def names(wanted: Filter) -> list[str]:
    return [each.student for each in rows_of(ROWS_OF_ALL, wanted).items]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(), ["ada", "Bob", "cyd", "dan"]),
        (Filter(find="A"), ["ada", "dan"]),
        (Filter(outcome="not gradable"), ["cyd"]),
        (Filter(score=Decimal(5)), ["ada", "Bob"]),
        (Filter(grader="g2"), ["Bob"]),
        (Filter(test="leak"), ["Bob"]),
        (Filter(cause="undefined reference"), ["cyd"]),
        (Filter(find="zoe"), []),
    ],
)
def test_filters(wanted: Filter, expected: list[str]) -> None:
    assert names(wanted) == expected


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("score", ["Bob", "ada", "cyd", "dan"]),
        ("seconds", ["Bob", "ada", "cyd", "dan"]),
        ("waited", ["cyd", "ada", "Bob", "dan"]),
        ("outcome", ["ada", "Bob", "cyd", "dan"]),
        ("grader", ["ada", "cyd", "dan", "Bob"]),
    ],
)
def test_orders(sort: Sort, expected: list[str]) -> None:
    assert names(Filter(sort=sort)) == expected


def test_pages_have_a_hundred_rows_and_the_last_one_has_the_rest() -> None:
    many = [row(f"s{number:04}") for number in range(ROWS + 1)]
    first, second, beyond = (rows_of(many, Filter(page=page)) for page in (1, 2, 7))
    assert (first.first, first.last, first.pages, first.count) == (1, ROWS, 2, ROWS + 1)
    assert (second.first, second.last) == (ROWS + 1, ROWS + 1)
    assert beyond == second
    none = rows_of([], Filter())
    assert (none.first, none.last, none.pages) == (0, 0, 1)


def test_the_summary_counts_students_only() -> None:
    own = [*ROWS_OF_ALL, replace(BASE, phase=Phase.PRE_PROCESSING.value, student="")]
    found = summary_of(own)
    assert (found.total, found.over, found.limit, found.median) == (4, 3, Decimal(20), Decimal(20))
    assert list(found.counts) == [
        ("graded", Tone.GOOD, 2),
        ("not gradable", Tone.STUDENT, 1),
        ("queued", Tone.WAITING, 1),
    ]
    assert sum(found.histogram) == 2
    assert (found.histogram[5], found.histogram[-1]) == (1, 1)
    assert list(found.failing) == [("leak", 1)]
    assert list(found.causes) == [("not gradable", "undefined reference", 1)]


@pytest.mark.parametrize("scores", [[0], [0, 0], [-3, 5], [0.5], [10**6]])
def test_a_histogram_has_a_place_for_every_score(scores: list[float]) -> None:
    rows = [row(str(n), score=Decimal(str(score))) for n, score in enumerate(scores)]
    assert sum(summary_of(rows).histogram) == len(scores)


def test_a_filter_is_the_parameters_of_an_address() -> None:
    assert words_of_filter(Filter()) == {}
    assert words_of_filter(Filter(find="x", score=Decimal("1.50"), sort="score", page=3)) == {
        "find": "x",
        "score": "1.5",
        "sort": "score",
        "page": "3",
    }

"""Rows of a grade book: the draft against the published grades, filters, order and pages."""

from decimal import Decimal

import pytest

from broadway.domain.grade import Grade, GradeStatus
from broadway.domain.grade_book import BookEntry
from broadway.domain.pages import ROWS
from broadway.ingest.reads.grade_rows import GradeFilter, grade_rows


def entry(student: str, points: str | None = None, status: GradeStatus = GradeStatus.GRADED) -> BookEntry:
    return BookEntry(Grade(student, status, Decimal(points) if points else None))


DRAFT = [entry("ada", "9"), entry("Bob", "7"), entry("cyd", status=GradeStatus.NOT_SUBMITTED)]
PUBLISHED = [entry("ada", "8"), entry("Bob", "7"), entry("dan", "1")]


@pytest.mark.parametrize(
    ("wanted", "students"),
    [
        (GradeFilter(), ["ada", "Bob", "cyd", "dan"]),
        (GradeFilter(find="B"), ["Bob"]),
        (GradeFilter(status="not submitted"), ["cyd"]),
        (GradeFilter(changed=True), ["ada", "cyd", "dan"]),
        (GradeFilter(sort="points"), ["dan", "Bob", "ada", "cyd"]),
        (GradeFilter(sort="status"), ["ada", "Bob", "dan", "cyd"]),
        (GradeFilter(page=9), ["ada", "Bob", "cyd", "dan"]),
    ],
    ids=["all", "find", "status", "changed", "points", "by status", "beyond"],
)
def test_a_filter_chooses_and_orders_rows(wanted: GradeFilter, students: list[str]) -> None:
    assert [row.student for row in grade_rows(DRAFT, PUBLISHED, wanted).items] == students


def test_a_student_who_has_left_is_a_row_of_its_own() -> None:
    rows = grade_rows(DRAFT, PUBLISHED, GradeFilter())
    assert rows.changed == 3
    assert [(row.student, row.status.word) for row in rows.items if row.entry is None] == [
        ("dan", "not in the class any more")
    ]
    assert [(line.word, count) for line, count in rows.statuses] == [
        ("graded", 2),
        ("not in the class any more", 1),
        ("not submitted", 1),
    ]


def test_nothing_has_changed_before_the_first_publication() -> None:
    assert grade_rows(DRAFT, None, GradeFilter()).changed == 0


def test_a_page_has_a_hundred_rows() -> None:
    many = [entry(f"s{number:03}", "1") for number in range(ROWS + 20)]
    first, second = (grade_rows(many, None, GradeFilter(page=page)) for page in (1, 2))
    assert (len(first.items), first.last, first.pages) == (ROWS, ROWS, 2)
    assert (second.first, second.last, second.count) == (ROWS + 1, ROWS + 20, ROWS + 20)

"""Cells: bounds that name the row and the column."""

import pytest

from broadway.domain.sheets import cells
from broadway.domain.sheets.cells import MAX_BYTES, MAX_CELL, MAX_COLUMNS, opened, rows, separator_of
from broadway.domain.sheets.entries import SheetError


def test_a_file_has_a_bound() -> None:
    with pytest.raises(SheetError, match="expected a file of at most 16 MiB"):
        opened(b"a" * (MAX_BYTES + 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n" + "," * MAX_COLUMNS, "row 2, column 2001: expected at most 2000 columns"),
        ("a\nb," + "x" * (MAX_CELL + 1), "row 2, column 2: expected at most 100000 characters"),
        ('a\nb,"' + "x" * MAX_CELL + '"', "row 2, column 2: expected at most 100000 characters"),
        ('a\n"b,c\n', "row 2, column 1: the quote at its beginning is never closed"),
    ],
)
def test_rows_and_cells_have_bounds(text: str, said: str) -> None:
    with pytest.raises(SheetError, match=said):
        list(rows(text, ","))


def test_a_file_has_a_bound_of_rows_and_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "MAX_ROWS", 2)
    monkeypatch.setattr(cells, "MAX_CELLS", 3)

    with pytest.raises(SheetError, match="row 3: expected at most 2 rows"):
        list(rows("a\nb\nc\n", ","))
    with pytest.raises(SheetError, match="row 2, column 2: expected at most 3 cells"):
        list(rows("a,b\nc,d\n", ","))


def test_rows_count_as_in_a_spreadsheet() -> None:
    found = list(rows('a\r\n"b\nb"\r\r\n c,\n', ","))

    assert [(row.number, row.cells()) for row in found] == [(1, ["a"]), (2, ["b\nb"]), (3, [""]), (4, [" c", ""])]


@pytest.mark.parametrize(
    ("first", "separator"),
    [
        ("a,b;c;d", ";"),
        ('"a;b;c",d', ","),
        ("Student;Hw 1, a, b, c;ID", ";"),
        ("a\tb", "\t"),
        ("a", ","),
        ('"a";"b,c"', ";"),
    ],
)
def test_the_separator_is_the_one_with_which_the_names_are_known(first: str, separator: str) -> None:
    assert separator_of(f"{first}\n", {"student", "id"}) == separator

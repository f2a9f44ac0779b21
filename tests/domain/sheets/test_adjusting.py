"""The plain CSV after a spreadsheet: a preview of adjustments, and errors at their row and column."""

from dataclasses import replace
from decimal import Decimal

import pytest
from domain.sheets.classes import ADA, BOB, CLASS, CYD

from broadway.domain.sheets.adjusting import MAX_REASON, Adjustment, preview
from broadway.domain.sheets.entries import LeftOut, SheetError
from broadway.domain.sheets.matching import UnmatchedRow
from broadway.domain.sheets.writing import plain_csv


@pytest.mark.parametrize(
    "data",
    [
        b"student,score,reason\nada,18.25,bonus\nbob,-1.0,\ncyd@x.edu,,\nzoe,1,\n",
        b"\xef\xbb\xbfStudent;max;Score;Reason\r\nada;20;18,25;bonus\r\nbob;;-1;\r\ncyd@x.edu;;;\r\nzoe;;1;\r\n",
        "student\tscore\treason\nada\t18.25\tbonus\nbob\t-1\t\ncyd@x.edu\t\t\nzoe\t1\t\n".encode("utf-16"),
        b'"reason","student","score"\n\n"bonus","ada","18,25"\n'.replace(b"18,25", b"18.25")
        + b",bob,-1\n,cyd@x.edu,\n,zoe,1\n",
    ],
)
def test_a_changed_score_is_an_adjustment(data: bytes) -> None:
    found = preview(data, CLASS)

    (adjusted,) = found.adjustments
    assert (adjusted.student, adjusted.before, adjusted.after, adjusted.reason) == (
        "ada",
        Decimal("17.5"),
        Decimal("18.25"),
        "bonus",
    )
    assert found.same == 2
    assert [each.label for each in found.unknown] == ["zoe"]
    assert found.absent == [LeftOut("dan", "the file has no row of this student")]


@pytest.mark.parametrize("data", [b"student;score\nada;1,234\n", b"student\tscore\nada\t1,23400\n"])
def test_a_comma_is_a_decimal_sign_where_it_cannot_be_another(data: bytes) -> None:
    assert [each.after for each in preview(data, [ADA]).adjustments] == [Decimal("1.234")]


@pytest.mark.parametrize("score", ["7.2000008", "0.33333333333333333333333333333333", "-0.0000000001"])
def test_an_exact_grade_that_comes_back_is_the_same(score: str) -> None:
    exact = replace(ADA, score=Decimal(score))

    found = preview(plain_csv([exact]).data, [exact])

    assert (found.adjustments, found.same) == ([], 1)


def test_an_emptied_cell_takes_a_score_away_and_a_filled_one_gives_one() -> None:
    found = preview(b"student,score\nada,\ncyd@x.edu,3\n", [ADA, CYD])

    assert found.adjustments == [
        Adjustment(2, "ada", Decimal("17.5"), None, ""),
        Adjustment(3, "cyd@x.edu", None, Decimal(3), ""),
    ]


def test_an_unknown_student_is_named_with_the_row() -> None:
    assert preview(b"student,score\n\n'=x,1\n", [BOB]).unknown == [UnmatchedRow(3, "=x", "no grade is of this student")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "row 1: expected the names of columns, not an empty row"),
        (b"student,points\n", "row 1: expected a column named score; found student, points"),
        (b"student,score,Score\n", "row 1, column 3: the column score is there twice"),
        (b"student,score\nada,17x\n", "row 2, column 2: expected a number such as 17.5 or an empty cell, not '17x'"),
        (b'student,score\nada,"1,234"\n', "row 2, column 2: expected a number such as 17.5"),
        (b"student\tscore\nada\t1,234\n", "row 2, column 2: expected a number such as 17.5"),
        (b"student,score\nada,nan\n", "row 2, column 2: expected a number"),
        (b"student,score\nada,1e5\n", "row 2, column 2: expected a number"),
        (b"student,score\nada,9007199254740993\n", "row 2, column 2: expected a number"),
        (b"student,score\nada\n", "row 2, column 2: expected a score or an empty cell; the row is too short"),
        (b"student,score\n,1\n", "row 2, column 1: expected a student"),
        (b"student,score\nada,1\nada,1\n", "row 3, column 1: ada is in row 2, too"),
        (
            b"student,score,reason\nada,1," + b"x" * (MAX_REASON + 1),
            "row 2, column 3: expected at most 4000",
        ),
    ],
)
def test_a_file_that_is_no_list_of_scores_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(SheetError) as error:
        preview(data, CLASS)

    assert said in str(error.value)

"""The choices of staff: formats by name, keys as text, and choices that contradict each other."""

from dataclasses import replace
from decimal import Decimal

import pytest
from domain.sheets.classes import ADA, BOB

from broadway.domain.sheets.entries import SheetError
from broadway.domain.sheets.options import MAX_KEYS, DecimalSign, ExportChoice, Format, exported, key_of, keys_of
from broadway.domain.sheets.shapes import Key

COMMA = DecimalSign.COMMA
FIRST_LINES = {
    Format.CSV: "student,score,max,status,submitted_at,late_days,job,attempt,version,published_at",
    Format.CANVAS: "Student,ID,SIS User ID,SIS Login ID,Section,Lab 1 (77)",
    Format.MOODLE: "Email address,ID number,Lab 1,Feedback: Lab 1",
    Format.BRIGHTSPACE: "OrgDefinedId,Username,Lab 1 Points Grade <Numeric MaxPoints:20>,End-of-Line Indicator",
    Format.GRADESCOPE: "First Name,Last Name,SID,Email,Sections,Total Score,Max Points,Status,Submission ID,"
    "Submission Time,Lateness (H:M:S),View Count,Submission Count",
}


@pytest.mark.parametrize("kind", Format)
def test_each_format_has_its_own_columns(kind: Format) -> None:
    canvas_id = 77 if kind is Format.CANVAS else None
    written = exported([ADA, BOB], ExportChoice(format=kind, title="Lab 1", canvas_id=canvas_id))

    first = written.data.decode().splitlines()[0]
    assert first == FIRST_LINES.get(kind, first)
    assert (first[0] == "{") == (kind is Format.JSONL)


@pytest.mark.parametrize("kind", Format)
def test_only_two_formats_take_a_decimal_comma(kind: Format) -> None:
    if kind in (Format.CSV, Format.MOODLE):
        assert b"17,5" in exported([ADA], ExportChoice(format=kind, title="mp1", decimal=COMMA)).data
    else:
        with pytest.raises(SheetError, match=f"decimal: {kind} expects a point"):
            ExportChoice(format=kind, title="mp1", decimal=COMMA)


def test_only_canvas_has_ids_of_canvas() -> None:
    with pytest.raises(SheetError, match="canvas_id: the format csv has no ids"):
        ExportChoice(format=Format.CSV, title="mp1", canvas_id=1)


def test_grades_with_different_maxima_have_none_together() -> None:
    grades = [ADA, replace(BOB, maximum=Decimal(19))]

    assert exported(grades, ExportChoice(format=Format.CANVAS, title="mp1")).data.splitlines()[1] == (
        b"    Points Possible,,,,,"
    )
    with pytest.raises(SheetError, match="the points that are possible"):
        exported(grades, ExportChoice(format=Format.BRIGHTSPACE, title="mp1"))


def test_the_last_sign_separates_a_column_from_its_identifier() -> None:
    assert key_of(" a=b = sis_id ") == Key("a=b", "sis_id")


@pytest.mark.parametrize("text", ["", "=", "a", "a=", "=b", "x" * 1001 + "=a", "a=" + "x" * 201])
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(SheetError, match="expected the name of a column and that of an identifier"):
        key_of(text)


def test_keys_are_few() -> None:
    assert len(keys_of(["a=b"] * MAX_KEYS)) == MAX_KEYS
    with pytest.raises(SheetError, match="expected at most 10"):
        keys_of(["a=b"] * (MAX_KEYS + 1))

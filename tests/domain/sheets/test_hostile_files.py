"""Files and rosters that attack: names that pose as parts of a file, shared identifiers, and files of other kinds."""

import csv
import io
from dataclasses import replace

import pytest
from domain.sheets.classes import ADA, BOB, CLASS, grade
from domain.sheets.exports import BLACKBOARD, CANVAS, MOODLE, Export

from broadway.domain.sheets.adjusting import preview
from broadway.domain.sheets.entries import Entry, LeftOut, SheetError
from broadway.domain.sheets.matching import UnmatchedRow
from broadway.domain.sheets.merging import MergeChoice, merge
from broadway.domain.sheets.options import ExportChoice, Format, exported
from broadway.domain.sheets.shapes import Key
from broadway.domain.sheets.writing import plain_csv, unmatched_csv

MP1 = MergeChoice(column="mp1")
FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@A1",
    "\t=1",
    "\r=1",
    "\N{FULLWIDTH EQUALS SIGN}1",
    "  =1",
    "'=1",
    '=HYPERLINK("")',
]
TEXTS = ("name", "first_name", "last_name", "section")


def cells(data: bytes) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(data.decode(), newline="")) for cell in row]


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("kind", [each for each in Format if each is not Format.JSONL])
def test_no_cell_of_a_new_file_runs_as_a_formula(formula: str, kind: Format) -> None:
    hostile = replace(
        ADA,
        identifiers={"sis_id": "1", "email": "a@x.edu", "username": "ada", **dict.fromkeys(TEXTS, formula)},
        feedback=formula,
        job=formula if kind is Format.GRADESCOPE else "j",
    )

    found = cells(exported([hostile], ExportChoice(format=kind, title="mp1")).data)

    assert not [cell for cell in found if cell.strip("\t\r\0 ")[:1] in tuple("=+-@\N{FULLWIDTH EQUALS SIGN}")]


@pytest.mark.parametrize("control", ["\n", "\r", "\0", "\x85", "\u2028"])
def test_a_name_has_one_line_in_every_new_file(control: str) -> None:
    names = dict.fromkeys(TEXTS, f"Ada{control}=1+1")
    hostile = replace(ADA, identifiers={"sis_id": "1", "email": "a@x.edu", **names})

    for kind, lines in ((Format.CANVAS, 3), (Format.MOODLE, 2), (Format.BRIGHTSPACE, 2), (Format.GRADESCOPE, 2)):
        found = exported([replace(hostile, feedback=f"a{control}b")], ExportChoice(format=kind, title="mp1")).data
        assert len(found.decode().splitlines()) == lines
        assert b"\0" not in found


def test_a_student_with_nul_is_left_out_of_a_text_file_and_the_others_come_back() -> None:
    written = plain_csv([replace(ADA, student="a\0a"), BOB])

    assert written.left_out == [LeftOut("a\0a", "NUL is no part of a text file")]
    assert not written.is_complete()
    assert preview(written.data, [BOB]).same == 1


@pytest.mark.parametrize(
    "student", ["a\nb", "a\rb", 'a"b', "a,b;c\td", " a ", "'=a", "\N{FULLWIDTH PLUS SIGN}1", "é 😀"]
)
def test_a_hostile_name_of_a_student_comes_back_as_it_is(student: str) -> None:
    hostile = replace(ADA, student=student)

    found = preview(plain_csv([hostile, BOB]).data, [hostile, BOB])

    assert (found.same, found.unknown, found.adjustments) == (2, [], [])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Format.CANVAS, "canvas_id"),
        (Format.CANVAS, "username"),
        (Format.MOODLE, "email"),
        (Format.BRIGHTSPACE, "sis_id"),
        (Format.GRADESCOPE, "email"),
    ],
)
def test_students_who_share_an_identifier_get_no_row(kind: Format, name: str) -> None:
    def student(each: str, value: str) -> Entry:
        return grade(
            each, "1", **{"sis_id": f"s{each}", "email": f"{each}@x.edu", "canvas_id": f"1{each}", name: value}
        )

    same = [student("ada", "X@x.edu"), student("bob", "x@x.edu" if name in ("email", "username") else "X@x.edu")]
    written = exported([*same, student("cyd", "c")], ExportChoice(format=kind, title="mp1"))

    reason = f"the {name} is that of several students: ada, bob"
    assert written.left_out == [LeftOut("ada", reason), LeftOut("bob", reason)]
    assert [each for each in cells(written.data) if "cyd" in each or each == "#c"]


def test_an_id_that_is_the_user_name_of_another_student_is_shared() -> None:
    written = exported(
        [grade("bob", "1"), grade("x", "2", username="BOB")], ExportChoice(format=Format.CANVAS, title="a")
    )

    assert [each.student for each in written.left_out] == ["bob", "x"]


@pytest.mark.parametrize("name", ["Points Possible", "    Points Possible", "Dr. Points Possible, Eve"])
def test_a_student_who_poses_as_a_row_of_canvas_is_a_student(name: str) -> None:
    rows = f'Student,ID,SIS User ID,mp1\nPoints Possible,,,20\n"Ada",1,00246,\n"{name}",2,00247,\n'

    merged = merge(rows.encode(), CLASS, MP1)

    assert [change.student for change in merged.changes] == ["ada", "bob"]
    assert merged.notes == []


def test_a_student_of_the_name_of_the_test_student_is_a_student() -> None:
    rows = 'Student,ID,SIS User ID,mp1\n"Student, Test",1,00246,\n"Student, Test",2,,\n'

    merged = merge(rows.encode(), [ADA], MP1)

    assert [change.row for change in merged.changes] == [2]
    assert merged.is_complete()


def test_a_name_that_poses_as_the_row_of_points_changes_no_width() -> None:
    rows = "Student,ID,SIS User ID,mp1\nPoints Possible,,,20\nPoints Possible,2,00246,,,,=1+1\n"

    with pytest.raises(SheetError, match="row 3, column 5: expected 4 cells as in the first row, not 7"):
        merge(rows.encode(), [ADA], MP1)


def test_two_columns_of_a_key_need_a_choice() -> None:
    rows = b"Email address,mp1,Email address\nbob@x.edu,,cyd@x.edu\n"

    with pytest.raises(SheetError, match="row 1: the columns #1, #3 have the name email address; name the keys"):
        merge(rows, CLASS, MP1)
    merged = merge(rows, CLASS, replace(MP1, keys=[Key("#1", "email")]))
    assert [change.student for change in merged.changes] == ["bob"]


def test_a_column_may_be_named_by_its_number() -> None:
    rows = b"student,mp1 (Real),mp1 (Real),#3\nada,,,\n"

    with pytest.raises(SheetError, match=r"mp1 may be column 2 \(mp1 \(Real\)\), column 3 .*or its number, such as #2"):
        merge(rows, [ADA], MP1)
    assert merge(rows, [ADA], replace(MP1, column="#2")).data == b"student,mp1 (Real),mp1 (Real),#3\nada,17.5,,\n"
    assert merge(rows, [ADA], replace(MP1, column="#3")).data.endswith(b"ada,,,17.5\n"), "a name comes first"
    with pytest.raises(SheetError, match="expected a column named #5"):
        merge(rows, [ADA], replace(MP1, column="#5"))
    with pytest.raises(SheetError, match="column 1: student is no column for grades"):
        merge(rows, [ADA], replace(MP1, column="#1"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04\x14\0\6\0", "expected CSV, not a workbook of a spreadsheet or a zip; export CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "expected CSV, not a workbook of an old spreadsheet"),
        (b"<!DOCTYPE html><html>", "expected CSV, not a web page"),
        (b"<HTML>\n", "expected CSV, not a web page"),
        (b"%PDF-1.7", "expected CSV, not a PDF"),
        (BLACKBOARD.encode("utf-16-le"), "this seems to be UTF-16 without a byte order mark.*or name its encoding"),
        (b"\xff\xfea", "line 1: the byte 0x61 is not UTF-16"),
        (b'"a\nb\n', "the quote at its beginning is never closed"),
        (b'"a"b,mp1\n', "a quoted cell has text after its last quote"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_remedy(data: bytes, said: str) -> None:
    for read in (lambda: merge(data, CLASS, MP1), lambda: preview(data, CLASS)):
        with pytest.raises(SheetError, match=said):
            read()


def test_a_wrong_encoding_that_can_be_read_changes_no_byte_but_the_cells() -> None:
    export = Export("", MOODLE, "utf-8", column="Assignment: mp1")
    choice = MergeChoice(column=export.column, encoding="latin-1")

    assert merge(export.data("", "", ""), CLASS, choice).data == export.data("17.5", "-1", "")


def test_a_name_in_another_form_of_unicode_is_the_same_name() -> None:
    student = grade("z", "2", name="Zo\N{LATIN SMALL LETTER E WITH DIAERESIS} L")
    rows = "Name,mp1\nZoe\N{COMBINING DIAERESIS} L,\n".encode()

    merged = merge(rows, [student], replace(MP1, keys=[Key("Name", "name")]))

    assert [change.student for change in merged.changes] == ["z"]


def test_the_list_of_the_unmatched_has_one_line_for_each() -> None:
    rows = 'student,mp1\n"=1+1\n,x",\n'
    students = [replace(ADA, student="@SUM(A1)\nb")]

    listed = unmatched_csv(merge(rows.encode(), students, MP1)).decode()

    assert listed.splitlines()[1:] == [
        "file,'@SUM(A1) b,,,no row has one of its identifiers",
        'grades,,2,"\'=1+1 ,x",no grade has one of its identifiers',
    ]


def test_ragged_rows_of_others_stay_as_they_are() -> None:
    rows = b"student,a,mp1\nada,1,\n\nnobody\nzoe,,,,,,\n,,\n"

    merged = merge(rows, [ADA], MP1)

    assert merged.data == rows.replace(b"ada,1,", b"ada,1,17.5")
    assert merged.unmatched_rows == [
        UnmatchedRow(4, "nobody", "no grade has one of its identifiers"),
        UnmatchedRow(5, "zoe", "no grade has one of its identifiers"),
    ]


def test_a_student_of_canvas_without_a_name_is_matched_by_the_identifier() -> None:
    rows = CANVAS.split("\n", maxsplit=1)[0] + "\n,101,00246,,,,,,,\n"

    assert [change.student for change in merge(rows.encode(), [ADA], MP1).changes] == ["ada"]

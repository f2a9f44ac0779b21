"""Merging into exported files: the chosen cells change, byte for byte, and all without a counterpart is named."""

from dataclasses import replace

import pytest
from domain.sheets.classes import ADA, BOB, CLASS, CYD, grade
from domain.sheets.exports import BRIGHTSPACE, CANVAS, EXPORTS, MOODLE, Export

from broadway.domain.sheets.entries import EntryStatus, LeftOut, Missing, SheetError
from broadway.domain.sheets.matching import UnmatchedRow
from broadway.domain.sheets.merging import Change, MergeChoice, counts, merge
from broadway.domain.sheets.shapes import Key, Lms
from broadway.domain.sheets.writing import unmatched_csv

every_export = pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.name)


def choice_for(export: Export) -> MergeChoice:
    return MergeChoice(column=export.column, encoding=export.named)


@every_export
def test_only_the_cells_of_the_chosen_column_change(export: Export) -> None:
    merged = merge(export.data("", "3.00", ""), CLASS, choice_for(export))

    assert merged.data == export.data("17.5", "-1", "")
    assert [(change.student, change.before, change.after) for change in merged.changes] == [
        ("ada", "", "17.5"),
        ("bob", "3.00", "-1"),
    ]


@every_export
def test_a_second_merge_changes_nothing(export: Export) -> None:
    first = merge(export.data("", "", "2"), CLASS, choice_for(export))

    second = merge(first.data, CLASS, choice_for(export))

    assert first.changes
    assert second.data == first.data
    assert not second.changes


@every_export
def test_a_score_of_the_same_value_stays_as_the_system_wrote_it(export: Export) -> None:
    cells = ("17.50", "-1.00", "")
    merged = merge(export.data(*cells), CLASS, choice_for(export))

    assert merged.data == export.data(*cells)
    assert merged.same == 3


@every_export
def test_all_without_a_counterpart_is_named_in_both_directions(export: Export) -> None:
    merged = merge(export.data("", "", ""), CLASS, choice_for(export))

    assert merged.unmatched_students == [LeftOut("dan", "no row has one of its identifiers")]
    assert [each.label.startswith(("Unknown", "Eve Unknown")) for each in merged.unmatched_rows] == [True]
    assert "00999" in merged.unmatched_rows[0].label
    assert not merged.is_complete()
    assert counts(merged) == {
        "changed": 2,
        "same": 1,
        "held": 0,
        "students without a row": 1,
        "rows without a grade": 1,
    }


def merged_cells(
    *grades: object, text: str = CANVAS, cells: tuple[str, str, str] = ("", "", ""), **choice: object
) -> str:
    export = Export("", text, "utf-8")
    merged = merge(export.data(*cells), list(grades), MergeChoice(column="mp1", **choice))  # type: ignore[arg-type]
    before, *between = export.data("\1", "\1", "\1").decode().split("\1")
    assert before
    rest, found = merged.data.decode().removeprefix(before), []
    for part in between:
        cell, _, rest = rest.partition(part)
        found.append(cell)
    return "|".join(found)


@pytest.mark.parametrize(
    ("status", "missing", "before", "after"),
    [
        (EntryStatus.MISSING, Missing.LEAVE, "5", "5"),
        (EntryStatus.MISSING, Missing.BLANK, "5", ""),
        (EntryStatus.MISSING, Missing.ZERO, "", "0"),
        (EntryStatus.MISSING, Missing.ZERO, "0.00", "0.00"),
        (EntryStatus.EXCUSED, Missing.ZERO, "", "EX"),
        (EntryStatus.EXCUSED, Missing.LEAVE, "ex", "ex"),
        (EntryStatus.ERROR, Missing.ZERO, "5", "5"),
        (EntryStatus.UNGRADED, Missing.BLANK, "5", "5"),
    ],
)
def test_no_grade_is_no_zero(status: EntryStatus, missing: Missing, before: str, after: str) -> None:
    found = merged_cells(grade("ada@x.edu", None, status), cells=(before, "1", "2"), missing=missing)

    assert found == f"{after}|1|2"


@pytest.mark.parametrize(("missing", "noted"), [(Missing.LEAVE, 1), (Missing.BLANK, 0), (Missing.ZERO, 0)])
def test_the_cells_that_stay_for_want_of_a_submission_are_counted(missing: Missing, noted: int) -> None:
    data = Export("", CANVAS, "utf-8").data("5", "5", "5")

    merged = merge(data, CLASS, MergeChoice(column="mp1", missing=missing))

    note = "students without a submission that counts, whose cells stay as they are: 1"
    assert merged.notes == [note] * noted


@pytest.mark.parametrize("score", ["7.2000008", "0.123456789012345678901234567890123456789", f"{2**54}"])
def test_a_grade_is_written_with_all_its_digits(score: str) -> None:
    data = Export("", MOODLE, "utf-8").data("-", "-", "-")
    grades = [grade("ada", score, email="ada@x.edu")]

    merged = merge(data, grades, MergeChoice(column="mp1"))

    assert merged.data == Export("", MOODLE, "utf-8").data(score, "-", "-")
    assert merged.notes == []
    assert not merge(merged.data, grades, MergeChoice(column="mp1")).changes


@pytest.mark.parametrize("status", [EntryStatus.ERROR, EntryStatus.UNGRADED])
def test_a_student_whose_grade_is_open_is_named(status: EntryStatus) -> None:
    data = Export("", CANVAS, "utf-8").data("5", "", "")

    merged = merge(data, [grade("ada@x.edu", None, status)], MergeChoice(column="mp1"))

    assert merged.data == data
    assert [each.student for each in merged.held] == ["ada@x.edu"]
    assert not merged.is_complete()


def test_only_canvas_has_a_sign_for_excused_students() -> None:
    data = Export("", MOODLE, "utf-8").data("-", "-", "-")

    merged = merge(data, [grade("ada", None, EntryStatus.EXCUSED, email="ada@x.edu")], MergeChoice(column="mp1"))

    assert merged.data == data
    assert merged.held == [LeftOut("ada", "excused, for which this file has no sign")]


def test_a_student_without_the_assignment_in_canvas_is_named_and_left() -> None:
    data = Export("", CANVAS, "utf-8").data("N/A", "", "")

    merged = merge(data, [ADA], MergeChoice(column="mp1"))

    assert merged.data == data
    assert [each.student for each in merged.held] == ["ada"]


def test_canvas_gets_two_decimals_rounded_half_to_even_and_the_others_all() -> None:
    odd = [grade("ada@x.edu", "1.125"), grade("bob@x.edu", "0.000001"), grade("cyd@x.edu", "100000")]

    assert merged_cells(*odd) == "1.12|0|100000"
    assert merged_cells(*odd, text=BRIGHTSPACE) == "1.125|0.000001|100000"
    data = Export("", CANVAS, "utf-8").data("", "", "")
    assert merge(data, odd, MergeChoice(column="mp1")).notes[-1:] == ["scores rounded to 2 decimals: 2"]


def test_decimal_commas_are_quoted_in_a_file_with_commas_and_refused_by_systems_that_need_points() -> None:
    assert merged_cells(grade("a", "1.5", email="ada@x.edu"), text=MOODLE, comma=True) == '"1,5"||'
    with pytest.raises(SheetError, match="canvas: expected a decimal point"):
        merged_cells(ADA, comma=True)


def test_scores_above_the_maximum_of_the_file_are_noted() -> None:
    data = Export("", CANVAS, "utf-8").data("", "", "")

    merged = merge(data, [grade("ada@x.edu", "21")], MergeChoice(column="mp1"))

    assert merged.notes == ["scores above the maximum, which the system may cut or refuse: 1"]


def test_another_maximum_is_noted_and_no_score_is_scaled() -> None:
    for text in (CANVAS.replace("20.00", "10"), BRIGHTSPACE.replace("MaxPoints:20", "MaxPoints:10")):
        data = Export("", text, "utf-8").data("", "", "")
        merged = merge(data, [ADA], MergeChoice(column="mp1"))
        assert merged.notes[:1] == ["the file says that 10 points are possible, the grades say 20; no score is scaled"]


# Columns


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("mpp1", "row 1: expected a column named mpp1; did you mean mp1?; found Student, ID"),
        ("ID", "row 1, column 2: ID is no column for grades"),
        ("Student", "row 1, column 1: Student is no column for grades"),
        ("Current Score", "row 3, column 9: Canvas does not import the column Current Score, which is read only"),
        ("", "row 1: expected a column named ;"),
    ],
)
def test_a_column_that_takes_no_grades_is_refused(column: str, said: str) -> None:
    with pytest.raises(SheetError) as error:
        merge(Export("", CANVAS, "utf-8").data("", "", ""), CLASS, MergeChoice(column=column))

    assert said in str(error.value)


@pytest.mark.parametrize("column", ["Calculated Final Grade Numerator", "End-of-Line Indicator"])
def test_a_column_that_the_system_fills_is_refused(column: str) -> None:
    with pytest.raises(SheetError, match=f"{column} is no column for grades"):
        merge(Export("", BRIGHTSPACE, "utf-8").data("", "", ""), CLASS, MergeChoice(column=column))


def test_a_title_that_two_columns_have_needs_the_whole_name() -> None:
    text = CANVAS.replace("mp2 (1235)", "mp1 (1235)")
    data = Export("", text, "utf-8").data("", "", "")

    with pytest.raises(SheetError, match=r"mp1 may be column 7 \(mp1 \(1234\)\), column 8 \(mp1 \(1235\)\)"):
        merge(data, CLASS, MergeChoice(column="mp1"))
    assert merge(data, CLASS, MergeChoice(column="mp1 (1234)")).column == "mp1 (1234)"


@pytest.mark.parametrize(
    ("text", "lms"),
    [(CANVAS, Lms.CANVAS), (CANVAS.replace("Student,", "LastName,FirstName,", 1), Lms.CANVAS), (MOODLE, Lms.MOODLE)],
)
def test_the_system_is_known_by_the_columns(text: str, lms: Lms) -> None:
    assert merge(text.splitlines()[0].encode(), [], MergeChoice(column="mp1")).lms is lms


def test_a_file_of_an_unknown_system_needs_a_column_with_identifiers() -> None:
    data = b"Matrikel;mp1\n00246;\n00247;3\n"

    with pytest.raises(SheetError, match="row 1: no column is known to have identifiers of students"):
        merge(data, CLASS, MergeChoice(column="mp1"))
    merged = merge(data, CLASS, MergeChoice(column="mp1", keys=[Key("Matrikel", "sis_id")]))
    assert merged.data == b"Matrikel;mp1\n00246;17.5\n00247;-1\n"
    with pytest.raises(SheetError, match="column Matrikel: no student has the identifier netid; known are email, name"):
        merge(data, CLASS, MergeChoice(column="mp1", keys=[Key("Matrikel", "netid")]))


# Students


def rows_with(*lines: str) -> bytes:
    return "\n".join(["Student,ID,SIS User ID,SIS Login ID,Section,mp1 (1)", *lines, ""]).encode()


def test_a_leading_zero_is_part_of_an_identifier() -> None:
    merged = merge(rows_with("Ada,1,246,,A,"), [ADA], MergeChoice(column="mp1"))

    assert not merged.changes
    assert [each.row for each in merged.unmatched_rows] == [2]
    assert merged.notes[0].startswith("no row matches; compared were ID with canvas_id, SIS User ID with sis_id, SIS ")


def test_a_row_whose_identifiers_are_of_two_students_matches_nothing() -> None:
    data = rows_with("Ada,,00246,bob@x.edu,A,5", "Bob,,,bob@x.edu,A,")

    merged = merge(data, [ADA, BOB], MergeChoice(column="mp1"))

    assert merged.data == rows_with("Ada,,00246,bob@x.edu,A,5", "Bob,,,bob@x.edu,A,-1")
    assert merged.unmatched_rows == [
        UnmatchedRow(2, "Ada 00246 bob@x.edu", "its identifiers are of several students, at the username: ada, bob")
    ]
    assert [each.student for each in merged.unmatched_students] == ["ada"]


def test_two_rows_of_one_student_match_nothing() -> None:
    data = rows_with("Ada,,00246,,A,", "Ada,,,ADA@x.edu,B,")

    merged = merge(data, [ADA], MergeChoice(column="mp1"))

    assert merged.data == data
    assert [each.row for each in merged.unmatched_rows] == [2, 3]
    assert merged.unmatched_students == [LeftOut("ada", "the rows 2, 3 are of this student")]


def test_an_identifier_of_two_students_matches_only_in_the_same_case() -> None:
    twins = [grade("x", "1", username="ada"), grade("y", "2", username="ADA")]
    data = rows_with("X,,,ada,A,", "Y,,,Ada,A,")

    merged = merge(data, twins, MergeChoice(column="mp1"))

    assert merged.data == rows_with("X,,,ada,A,1", "Y,,,Ada,A,")


def test_names_match_only_on_request_and_never_against_identifiers() -> None:
    data = rows_with('"LOVELACE,  Ada",,,,A,', "Ada Lovelace,,00247,,A,")

    assert [each.row for each in merge(data, [ADA, BOB], MergeChoice(column="mp1")).changes] == [3]
    merged = merge(data, [ADA, BOB], MergeChoice(column="mp1", by_name=True))
    assert merged.changes == [Change(2, "ada", "", "17.5"), Change(3, "bob", "", "-1")]


def test_a_first_name_alone_is_no_name() -> None:
    data = b"First name,Surname,ID number,mp1\nAda,Lovelace,,\nAda,Byron,,\n"

    merged = merge(data, [ADA, grade("x", "1", name="Ada")], MergeChoice(column="mp1", by_name=True))

    assert merged.data == b"First name,Surname,ID number,mp1\nAda,Lovelace,,17.5\nAda,Byron,,\n"


def test_the_student_that_canvas_adds_to_each_course_is_not_missed() -> None:
    data = CANVAS.replace("Student,", "LastName,FirstName,", 1).replace('"Student, Test"', "Student,Test").splitlines()

    merged = merge("\n".join([data[0], data[-1]]).encode(), [], MergeChoice(column="mp1"))

    assert "Student,Test,200" in merged.data.decode()
    assert not merged.unmatched_rows


def test_two_students_of_one_name_do_not_match_by_it() -> None:
    twins = [ADA, replace(ADA, student="ada2")]

    merged = merge(rows_with("Ada Lovelace,,,,A,"), twins, MergeChoice(column="mp1", by_name=True))

    assert not merged.changes
    assert merged.unmatched_rows[0].reason == "its identifiers are of several students, at the name: ada, ada2"


def test_two_grades_of_one_student_are_refused() -> None:
    with pytest.raises(SheetError, match="ada: expected one grade of each student, not two"):
        merge(rows_with(), [ADA, ADA], MergeChoice(column="mp1"))


def test_the_list_of_the_unmatched_runs_no_formula() -> None:
    data = rows_with('"=cmd()",7,,,A,')

    text = unmatched_csv(merge(data, [grade("@bob", "1"), CYD], MergeChoice(column="mp1"))).decode()

    assert text.splitlines() == [
        "missing_in,student,row,row_text,reason",
        "file,'@bob,,,no row has one of its identifiers",
        "file,cyd@x.edu,,,no row has one of its identifiers",
        "grades,,2,'=cmd() 7,no grade has one of its identifiers",
    ]


# Files that are no sheets


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["Ada,,00246,,A, B,5"], "row 2, column 7: expected 6 cells as in the first row, not 7; a text that has a sep"),
        (["Ada,,00246,,A"], "row 2, column 6: expected 6 cells as in the first row, not 5"),
        (['Ada,,"00246,,A,5', "Bob,,,,,"], "row 2, column 3: the quote at its beginning is never closed"),
        (['Ada,,"00246"7,,A,5'], "row 2, column 3: a quoted cell has text after its last quote"),
    ],
)
def test_a_row_whose_cells_are_not_in_their_columns_is_refused(lines: list[str], said: str) -> None:
    with pytest.raises(SheetError) as error:
        merge(rows_with(*lines), [ADA], MergeChoice(column="mp1"))

    assert said in str(error.value)


def test_a_row_whose_identifiers_are_shifted_matches_nothing() -> None:
    data = rows_with("Doe, Ada,,00246,,A,5")

    merged = merge(data, [ADA], MergeChoice(column="mp1"))

    assert merged.data == data
    assert [each.row for each in merged.unmatched_rows] == [2]


def test_a_name_of_a_column_has_a_bound() -> None:
    with pytest.raises(SheetError, match="row 1, column 2: expected a name of at most 1000 characters"):
        merge(b"student," + b"x" * 1001, [], MergeChoice(column="mp1"))


def test_rows_of_canvas_may_have_more_cells_than_names() -> None:
    data = rows_with("    Points Possible,,,,,20,(read only)", "Ada,,00246,,A,,B+")

    assert merge(data, [ADA], MergeChoice(column="mp1")).data == rows_with(
        "    Points Possible,,,,,20,(read only)", "Ada,,00246,,A,17.5,B+"
    )


def test_bytes_that_are_no_text_are_refused_with_the_line_and_the_remedy() -> None:
    with pytest.raises(SheetError, match=r"line 2: the byte 0xC7 is not UTF-8; .*, or name its encoding"):
        merge(rows_with("Çelik,,,,,").decode().encode("cp1252"), CLASS, MergeChoice(column="mp1"))

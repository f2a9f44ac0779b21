"""A changed sheet against the grades of the moment: changes to make, changes made already, and obstacles."""

from dataclasses import replace
from decimal import Decimal

import pytest
from domain.sheets.classes import ADA, BOB, CYD, grade

from broadway.domain.sheets.adjusting import preview, version_in
from broadway.domain.sheets.applying import Plan, plan
from broadway.domain.sheets.entries import Entry, EntryStatus, LeftOut, SheetError
from broadway.domain.sheets.writing import plain_csv

EVE = grade("eve", None, EntryStatus.EXCUSED)


def planned(rows: str, present: list[Entry], *, is_of_draft: bool = False, before: list[Entry] | None = None) -> Plan:
    found = preview(f"student,score,status,job\n{rows}\n".encode(), before or [ADA, BOB, CYD, EVE])
    return plan(found.adjustments, present, is_of_draft=is_of_draft)


def test_a_change_is_made_once() -> None:
    first = planned("ada,18,,", [ADA])
    again = planned("ada,18.00,,", [replace(ADA, score=Decimal(18))])

    assert [(each.student, each.after) for each in first.adjustments] == [("ada", Decimal(18))]
    assert (again.adjustments, again.done, again.obstacles) == ([], 1, [])


def test_a_student_whose_row_says_excused_is_excused_once() -> None:
    first = planned("ada,,Excused,", [ADA])
    again = planned("ada,,excused,", [grade("ada", None, EntryStatus.EXCUSED)])

    assert [(each.student, each.after, each.excused) for each in first.adjustments] == [("ada", None, True)]
    assert (again.adjustments, again.done) == ([], 1)


def test_a_missing_student_may_be_excused_and_an_excused_one_may_get_points() -> None:
    found = planned("cyd@x.edu,,excused,\neve,5,excused,", [CYD, EVE])

    assert [(each.student, each.after, each.excused) for each in found.adjustments] == [
        ("cyd@x.edu", None, True),
        ("eve", Decimal(5), False),
    ]


def test_a_row_of_an_excused_student_that_says_so_changes_nothing() -> None:
    assert preview(plain_csv([EVE, CYD]).data, [EVE, CYD]).adjustments == []


@pytest.mark.parametrize(
    ("rows", "present", "said"),
    [
        ("ada,18,,", replace(ADA, score=Decimal(19)), "row 2: the grade is 19 now; export the grades again"),
        ("ada,18,,", grade("ada", None, EntryStatus.ERROR), "row 2: the grade is error now; export the grades again"),
        ("ada,18,,", None, "row 2: the student has no grade any more; export the grades again"),
        ("ada,,,", ADA, "row 2: the score is empty; write a number, or excused into the column status"),
        ("ada,-1,,", ADA, "row 2: expected 0 to 1000000 with at most 4 decimals, not -1"),
        ("ada,1000001,,", ADA, "row 2: expected 0 to 1000000 with at most 4 decimals, not 1000001"),
        ("ada,1.00001,,", ADA, "row 2: expected 0 to 1000000 with at most 4 decimals, not 1.00001"),
    ],
)
def test_a_change_that_must_not_be_made_is_named(rows: str, present: Entry | None, said: str) -> None:
    found = planned(rows, [present] if present else [])

    assert (found.adjustments, found.obstacles) == ([], [LeftOut("ada", said)])


def test_a_change_of_a_draft_is_of_the_submission_that_counted() -> None:
    ours, other = replace(ADA, job="j1"), replace(ADA, job="j2")

    assert planned("ada,18,,j1", [ours], is_of_draft=True).adjustments
    assert planned("ada,18,,j1", [other]).adjustments, "the version keeps its grades"
    assert planned("ada,18,,j1", [other], is_of_draft=True).obstacles == [
        LeftOut("ada", "row 2: another submission counts now; export the grades again")
    ]
    no_column = preview(b"student,score\nada,18\n", [other])
    assert plan(no_column.adjustments, [other], is_of_draft=True).adjustments


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (plain_csv([replace(ADA, version=4), replace(BOB, version=4)]).data, 4),
        (plain_csv([ADA, BOB]).data, None),
        (b"student,score\nada,1\n", None),
        (b"student,score,version\n,,\nada,1,007\n", 7),
    ],
)
def test_a_file_names_its_version(data: bytes, version: int | None) -> None:
    assert version_in(data) == version


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"student,score,version\nada,1,3\nbob,1,4\n", "column version: expected one version, not 3, 4"),
        (b"student,score,version\nada,1,v3\n", "row 2, column 3: expected a version such as 3, not 'v3'"),
        (b"student,score,version\nada,1,1234567890\n", "row 2, column 3: expected a version such as 3"),
        (b"student,score,version,Version\nada,1,3,3\n", "row 1, column 4: the column version is there twice"),
    ],
)
def test_a_file_of_no_single_version_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(SheetError, match=said):
        version_in(data)

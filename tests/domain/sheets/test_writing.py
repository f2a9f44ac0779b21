"""New files: their columns, exact points, blanks for grades that there are not, and texts that run as no formula."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from domain.sheets.classes import ADA, BOB, CYD, grade

from broadway.domain import counting
from broadway.domain.formulas import defused
from broadway.domain.sheets import numbers
from broadway.domain.sheets.entries import Entry, EntryStatus, LeftOut, Missing, SheetError, Written, identifiers_of
from broadway.domain.sheets.lms import Item, brightspace, canvas, gradescope, moodle
from broadway.domain.sheets.merging import MergeChoice, merge
from broadway.domain.sheets.writing import json_lines, plain_csv

AT = datetime(2026, 11, 30, 12, 0, 5, tzinfo=timezone(timedelta(hours=1)))
FULL = replace(
    ADA,
    identifiers={**ADA.identifiers, "email": "ada@x.edu", "canvas_id": "101", "section": "A, B"},
    submitted_at=AT,
    late=timedelta(hours=27, minutes=5, seconds=9),
    late_days=2,
    job="j1",
    attempt=3,
    version=4,
    published_at=AT.astimezone(UTC) + timedelta(days=1),
    feedback="=1+1",
)
EXCUSED = grade("eve", None, EntryStatus.EXCUSED, sis_id="00302", email="eve@x.edu")
MP1 = Item(title="mp1", maximum=Decimal("20.0"), canvas_id=1234)


def lines(written: Written) -> list[str]:
    return written.data.decode().splitlines()


def test_plain_files_have_the_facts_of_a_grade() -> None:
    assert lines(plain_csv([FULL, BOB, CYD])) == [
        "student,score,max,status,submitted_at,late_days,job,attempt,version,published_at",
        "ada,17.5,20,graded,2026-11-30T11:00:05Z,2,j1,3,4,2026-12-01T11:00:05Z",
        "bob,-1,20,graded,,,,,,",
        "cyd@x.edu,,20,missing,,,,,,",
    ]


def test_json_lines_have_exact_numbers_and_the_identifiers() -> None:
    exact = Decimal("123456789.123457")
    written = json_lines([FULL, replace(BOB, score=exact)], missing=Missing.ZERO)

    first, second = (json.loads(line, parse_float=Decimal) for line in lines(written))
    assert second["score"] == exact
    assert first == {
        "student": "ada",
        "score": Decimal("17.5"),
        "max": 20,
        "status": "graded",
        "submitted_at": "2026-11-30T11:00:05Z",
        "late_days": 2,
        "job": "j1",
        "attempt": 3,
        "version": 4,
        "published_at": "2026-12-01T11:00:05Z",
        "identifiers": dict(FULL.identifiers),
    }


def test_a_decimal_comma_comes_with_semicolons() -> None:
    assert lines(plain_csv([FULL], comma=True))[1].startswith("ada;17,5;20;graded;")
    assert lines(moodle([FULL], MP1, comma=True))[1] == "ada@x.edu;00246;17,5;'=1+1"


def test_canvas() -> None:
    written = canvas([FULL, replace(BOB, score=Decimal("20.125")), CYD, EXCUSED], MP1)

    assert lines(written) == [
        "Student,ID,SIS User ID,SIS Login ID,Section,mp1 (1234)",
        "    Points Possible,,,,,20",
        'Ada Lovelace,101,00246,ada@x.edu,"A, B",17.5',
        "bob,,00247,BOB@x.edu,,20.12",
        "cyd@x.edu,,,cyd@x.edu,,",
        "eve,,00302,eve,,EX",
    ]
    assert written.notes == [
        "scores rounded to 2 decimals: 1",
        "scores above the maximum, which the system may cut or refuse: 1",
    ]


def test_moodle() -> None:
    written = moodle([FULL, replace(BOB, score=Decimal(101)), EXCUSED, grade("dan", "3")], MP1)

    assert lines(written) == [
        "Email address,ID number,mp1,Feedback: mp1",
        "ada@x.edu,00246,17.5,'=1+1",
        "bob@x.edu,00247,101,",
        "eve@x.edu,00302,,",
    ]
    assert written.left_out == [LeftOut("dan", "no email and no sis_id in the roster")]
    assert written.notes == ["Moodle refuses the file if a score is above 100, unless the site allows it"]


def test_moodle_stops_at_students_without_the_identifier_by_which_it_compares() -> None:
    written = moodle([ADA, BOB, CYD], MP1)

    (note,) = written.notes
    assert note.startswith("students without email: 1, without sis_id: 1; Moodle stops at the first student without")


def test_brightspace() -> None:
    assert lines(brightspace([FULL, CYD], MP1, missing=Missing.ZERO)) == [
        "OrgDefinedId,Username,mp1 Points Grade <Numeric MaxPoints:20>,End-of-Line Indicator",
        "#00246,#ada@x.edu,17.5,#",
        ",#cyd@x.edu,0,#",
    ]


def test_gradescope() -> None:
    named = grade("dan", None, EntryStatus.ERROR, first_name="Dan", last_name="@D")
    head, *rows = lines(gradescope([FULL, CYD, named]))

    assert head == (
        "First Name,Last Name,SID,Email,Sections,Total Score,Max Points,Status,Submission ID,Submission Time,"
        "Lateness (H:M:S),View Count,Submission Count"
    )
    assert rows == [
        ',Ada Lovelace,00246,ada@x.edu,"A, B",17.5,20,Graded,j1,2026-11-30 11:00:05 +0000,27:05:09,,3',
        ",,cyd@x.edu,cyd@x.edu,,,20,Missing,,,,,",
        "Dan,'@D,dan,,,,20,Ungraded,,,,,",
    ]


@pytest.mark.parametrize("missing", Missing)
def test_a_grade_that_is_open_is_blank_and_named_in_every_file(missing: Missing) -> None:
    statuses = {"err": EntryStatus.ERROR, "open": EntryStatus.UNGRADED}
    grades = [grade(name, None, status, sis_id=name, email=f"{name}@x.edu") for name, status in statuses.items()]

    for file in (
        plain_csv(grades, missing=missing),
        json_lines(grades, missing=missing),
        canvas(grades, MP1, missing=missing),
        moodle(grades, MP1, missing=missing),
        brightspace(grades, MP1, missing=missing),
        gradescope(grades, missing=missing),
    ):
        assert [each.student for each in file.held] == ["err", "open"]
        assert not file.is_complete()
    assert [json.loads(line)["score"] for line in lines(json_lines(grades, missing=missing))] == [None, None]
    assert [line.split(",")[2] for line in lines(moodle(grades, MP1, missing=missing))[1:]] == ["", ""]


@pytest.mark.parametrize("write", [canvas, brightspace])
def test_a_new_file_merges_with_its_grades_without_a_change(write: object) -> None:
    grades = [FULL, BOB, EXCUSED] if write is canvas else [FULL, BOB]
    data = write(grades, MP1).data  # type: ignore[operator]

    merged = merge(data, grades, MergeChoice(column="mp1"))

    assert merged.data == data
    assert merged.is_complete()


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("=cmd()", "'=cmd()"),
        (" +1+1", "' +1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("-a", "'-a"),
        ("\ta", "'\ta"),
        ("\ra", "'\ra"),
        ("\0a", "'\0a"),
        ("\N{FULLWIDTH EQUALS SIGN}1", "'\N{FULLWIDTH EQUALS SIGN}1"),
        ("'=1", "''=1"),
        ("-1", "-1"),
        ("+1.5", "+1.5"),
        ("-1+1", "'-1+1"),
        ("a=1", "a=1"),
        ("'a", "'a"),
        ("", ""),
    ],
)
def test_only_a_text_that_begins_like_a_formula_gets_an_apostrophe(text: str, harmless: str) -> None:
    assert defused(text) == harmless


@pytest.mark.parametrize("name", ["=x1", "@x1", "a\nb"])
def test_a_student_with_an_identifier_that_would_run_is_left_out_and_named(name: str) -> None:
    bad = grade("ada", "1", sis_id=name, email="a@x.edu")
    for write in (canvas, moodle, brightspace):
        file = write([bad, BOB], MP1)
        assert file.left_out == [
            LeftOut("ada", f"sis_id {name!r} begins like a formula or has control characters; correct it")
        ]
        assert "00247" in lines(file)[-1]
        assert name not in file.data.decode()
    assert [each.student for each in gradescope([bad]).left_out] == ["ada"]


def test_a_student_in_a_plain_file_is_made_harmless() -> None:
    assert lines(plain_csv([grade("=x", "1")]))[1].startswith("'=x,1,")


@pytest.mark.parametrize("title", ["", " ", "=1", "a\nb"])
def test_a_title_that_is_no_title_is_refused(title: str) -> None:
    with pytest.raises(SheetError, match="title"):
        Item(title=title)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (Item(title="a<b>", maximum=Decimal(1)), "Brightspace expects a title without < and >"),
        (Item(title="a"), "Brightspace expects the points that are possible"),
    ],
)
def test_brightspace_needs_a_plain_title_and_a_maximum(item: Item, said: str) -> None:
    with pytest.raises(SheetError, match=said):
        brightspace([], item)


def test_a_grade_has_a_score_if_and_only_if_it_is_graded() -> None:
    for status, score in ((EntryStatus.GRADED, None), (EntryStatus.ERROR, Decimal(0))):
        with pytest.raises(ValueError, match="expected a score if the status is graded"):
            Entry(student="ada", status=status, score=score)


def test_variables_are_identifiers_only_if_their_names_are_known_or_named() -> None:
    variables = {"EMAIL": "ada@x.edu", "sis_id": 246, "NETID": "a1", "TOKEN": "secret"}

    assert identifiers_of(variables) == {"email": "ada@x.edu", "sis_id": "246"}
    assert identifiers_of(variables, ["NETID", "other"]) == {"email": "ada@x.edu", "sis_id": "246", "NETID": "a1"}


def test_a_cell_has_room_for_every_exact_grade() -> None:
    assert numbers.EXACT >= counting.EXACT

"""Grades as entries of sheets: a status for each, and points for graded ones only."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from broadway.domain.grade import Grade, GradeStatus
from broadway.domain.grade_lines import Line
from broadway.domain.roster import Roster, RosterEntry
from broadway.domain.sheets.entries import Entry, EntryStatus
from broadway.domain.sheets.from_book import entry_of, identifiers_in

AT = datetime(2026, 12, 4, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "points", "expected"),
    [
        (GradeStatus.GRADED, Decimal("7.2"), EntryStatus.GRADED),
        (GradeStatus.GRADED, Decimal(0), EntryStatus.GRADED),
        (GradeStatus.GRADED, None, EntryStatus.UNGRADED),
        (GradeStatus.WAITING, None, EntryStatus.UNGRADED),
        (GradeStatus.ERROR, None, EntryStatus.ERROR),
        (GradeStatus.NOT_SUBMITTED, None, EntryStatus.MISSING),
        (GradeStatus.NOT_COUNTED, None, EntryStatus.MISSING),
        (GradeStatus.EXCUSED, None, EntryStatus.EXCUSED),
        (GradeStatus.EXCUSED, Decimal(3), EntryStatus.EXCUSED),
    ],
)
def test_a_status_says_why_there_is_a_score_or_none(
    status: GradeStatus, points: Decimal | None, expected: EntryStatus
) -> None:
    entry = entry_of(Grade("ada", status, points), identifiers={})

    assert entry.status is expected
    assert entry.score == (points if expected is EntryStatus.GRADED else None)


def test_every_status_of_a_grade_has_one_in_sheets() -> None:
    assert {entry_of(Grade("ada", status), identifiers={}).student for status in GradeStatus} == {"ada"}


def test_the_facts_of_a_grade_are_in_its_entry() -> None:
    grade = Grade(
        "ada",
        GradeStatus.GRADED,
        Decimal("7.2"),
        Decimal(10),
        number=3,
        submitted_at=AT,
        delay=timedelta(hours=1),
        days_late=1,
        late_days=2,
        lines=(Line("Tests: 9 of 10 points.", Decimal(9)), Line("Grade: 7.2 of 10 points.")),
    )

    assert entry_of(grade, identifiers={"sis_id": "1"}, job="j1", version=4, published_at=AT) == Entry(
        student="ada",
        status=EntryStatus.GRADED,
        score=Decimal("7.2"),
        maximum=Decimal(10),
        identifiers={"sis_id": "1"},
        submitted_at=AT,
        late=timedelta(hours=1),
        late_days=2,
        job="j1",
        attempt=3,
        version=4,
        published_at=AT,
        feedback="Tests: 9 of 10 points. Grade: 7.2 of 10 points.",
    )


ROSTER = Roster(
    students=(
        RosterEntry(student="ada", env={"SIS_ID": "00246", "API_KEY": "secret", "Matrikel": 7, "email": ["a@x.edu"]}),
        RosterEntry(student="team7", members=("bob", "cyd"), env={"email": "team7@x.edu"}),
    )
)


def test_identifiers_come_from_the_known_variables_of_a_student() -> None:
    assert identifiers_in(ROSTER, ["ada", "dan"]) == {"ada": {"sis_id": "00246"}, "dan": {}}
    assert identifiers_in(ROSTER, ["ada"], extra=["Matrikel"])["ada"] == {"sis_id": "00246", "Matrikel": "7"}
    assert identifiers_in(None, ["ada"]) == {"ada": {}}


def test_the_variables_of_a_group_are_not_those_of_its_members() -> None:
    assert identifiers_in(ROSTER, ["bob", "cyd"]) == {"bob": {}, "cyd": {}}


def test_the_names_of_students_may_be_an_identifier() -> None:
    assert identifiers_in(ROSTER, ["ada", "bob"], student_is="sis_id") == {
        "ada": {"sis_id": "00246"},
        "bob": {"sis_id": "bob"},
    }

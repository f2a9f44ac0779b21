"""Grade books: the content of versions, the adjustments in force, and the students whom a publication changes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.counting import Adjustment, Decision
from broadway.domain.grade import Grade, GradeStatus
from broadway.domain.grade_book import (
    CHUNK,
    AdjustmentKind,
    BookEntry,
    MadeFrom,
    StoredAdjustment,
    Version,
    applied,
    changed_students,
    chunks_of,
    entries_of,
)
from broadway.domain.grade_lines import Line

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
POINTS = st.none() | st.decimals(min_value=0, max_value=10**6, allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ENTRIES = st.builds(
    BookEntry,
    st.builds(
        Grade,
        TEXTS.filter(bool),
        st.sampled_from(GradeStatus),
        points=POINTS,
        max=POINTS,
        submission=st.none() | TEXTS,
        submitted_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        delay=st.none() | st.timedeltas(timedelta(), timedelta(days=999)),
        late_days=st.integers(0, 100),
        unsettled=st.tuples(TEXTS),
        closes_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        is_final=st.booleans(),
        lines=st.tuples(st.builds(Line, TEXTS, POINTS)),
    ),
    job=st.none() | TEXTS,
    generation=st.none() | st.integers(1, 9),
    adjustments=st.tuples(TEXTS),
)


def entry(student: str, points: str = "1", lines: tuple[Line, ...] = ()) -> BookEntry:
    return BookEntry(Grade(student, GradeStatus.GRADED, Decimal(points), lines=lines), execution="e")


def adjustment(
    identity: str, kind: AdjustmentKind, points: str | None, *, minute: int, withdrawn: bool = False
) -> StoredAdjustment:
    return StoredAdjustment(
        identity,
        "ada",
        kind,
        None if points is None else Decimal(points),
        f"reason {identity}",
        NOW + timedelta(minutes=minute),
        withdrawn_at=NOW if withdrawn else None,
    )


@given(st.lists(ENTRIES, max_size=5, unique_by=lambda each: each.student))
def test_entries_are_read_as_they_were_stored(entries: list[BookEntry]) -> None:
    chunks = chunks_of(entries)
    read = [each for chunk in chunks for each in entries_of(chunk.content)]
    assert read == sorted(entries, key=lambda each: each.student)
    assert chunks_of(reversed(entries)) == chunks  # whatever the order


def test_a_change_of_one_student_changes_one_chunk() -> None:
    entries = [entry(f"s{number:04}") for number in range(3 * CHUNK)]
    before = chunks_of(entries)
    entries[CHUNK + 1] = entry(entries[CHUNK + 1].student, "2")
    after = chunks_of(entries)
    assert [one.ref == other.ref for one, other in zip(before, after, strict=True)] == [True, False, True]


def test_a_student_is_in_the_chunk_that_begins_before() -> None:
    chunks = tuple(each.ref for each in chunks_of([entry(f"s{number:04}") for number in range(2 * CHUNK)]))
    version = Version("cs", "mp1", 1, 0, MadeFrom.DRAFT, chunks, 1, NOW)
    assert version.students == 2 * CHUNK
    found = [version.chunk_of(student) for student in ("s0000", f"s{CHUNK - 1:04}", f"s{CHUNK:04}", "s9999")]
    assert found == [chunks[0], chunks[0], chunks[1], chunks[1]]
    assert version.chunk_of("a") is None


def test_a_changed_grade_status_or_result_is_told_and_a_changed_line_is_not() -> None:
    before = {each.student: each for each in map(entry, ("ada", "bob", "cyd", "dee", "gone"))}
    after = {
        "ada": entry("ada"),
        "bob": entry("bob", "2"),
        "cyd": replace(entry("cyd"), execution="later"),
        "dee": entry("dee", lines=(Line("said otherwise"),)),
        "new": entry("new"),
    }
    assert changed_students(before, after) == ["bob", "cyd", "gone", "new"]


def test_points_add_up_and_the_latest_decision_holds() -> None:
    found = applied(
        [
            adjustment("5", AdjustmentKind.EXCUSED, None, minute=5, withdrawn=True),
            adjustment("4", AdjustmentKind.FINAL, "9", minute=4),
            adjustment("3", AdjustmentKind.EXCUSED, None, minute=3),
            adjustment("2", AdjustmentKind.POINTS, "-1", minute=2),
            adjustment("1", AdjustmentKind.POINTS, "2.5", minute=1),
        ]
    )["ada"]
    assert found.points == (Adjustment(Decimal("2.5"), "reason 1"), Adjustment(Decimal(-1), "reason 2"))
    assert found.decision == Decision(Decimal(9), "reason 4")
    assert found.ids == ("1", "2", "4")

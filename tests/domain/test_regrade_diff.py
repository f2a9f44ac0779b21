"""The difference that a regrade makes to a class, and the entries of its publication."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.comparison import CaseResult
from broadway.domain.grade import Grade, GradeStatus
from broadway.domain.grade_book import BookEntry
from broadway.domain.regrade import InfraErrorsError, Seen
from broadway.domain.regrade_diff import (
    Checked,
    Control,
    Diff,
    Grades,
    Row,
    diff_of,
    entries_to_publish,
    parted_group,
    rows_of,
)
from broadway.domain.regrade_terms import Category, Publish
from broadway.domain.report import Status

FAILED, PASSED = CaseResult(Status.FAILED), CaseResult(Status.PASSED)
TESTS = {"before": {"overflow": FAILED}, "after": {"overflow": PASSED}}
NAMES = ["ada", "bob", "cyd", "dan"]


def entry(student: str, points: float, execution: str = "before", submission: str = "s") -> BookEntry:
    grade = Grade(student, GradeStatus.GRADED, Decimal(str(points)), Decimal(10), f"{submission}-{student}")
    return BookEntry(grade, job="j", generation=1, execution=execution)


def book(points: float, execution: str = "before", **other: BookEntry) -> dict[str, BookEntry]:
    return {name: entry(name, points, execution) for name in NAMES} | other


OLD, NEW = book(5), book(7, "after")
SAME = Grades(base=OLD, present=OLD, draft=OLD, new=NEW)
SEEN = [Seen(name, f"s-{name}", (f"s-{name}",), is_listed=True) for name in NAMES]


def rows(grades: Grades = SAME, *, failed: set[str] = frozenset(), people: list[str] = NAMES) -> dict[str, Row]:  # type: ignore[assignment]
    found = rows_of(SEEN, grades, TESTS, failed=failed, people=people, controls=[])
    return {row.student: row for row in found}


def diff(found: dict[str, Row], present: dict[str, BookEntry] | None = None) -> Diff:
    return diff_of(list(found.values()), pointer=1, present=OLD if present is None else present, executions=TESTS)


def points(entries: list[BookEntry]) -> dict[str, int]:
    return {each.student: int(each.grade.points or 0) for each in entries}


def test_a_student_with_another_counting_submission_is_stale_and_runs_again() -> None:
    draft = book(5, bob=entry("bob", 9, submission="later"))
    found = rows(replace(SAME, draft=draft))
    assert (found["bob"].category, found["bob"].needs_run) == (Category.STALE, True)
    assert {found[name].category for name in ("ada", "cyd", "dan")} == {Category.UP}
    assert diff(found).is_stale


def test_a_student_whose_published_grade_changed_is_stale_and_need_not_run_again() -> None:
    found = rows(replace(SAME, present=book(5, bob=entry("bob", 6))))
    assert (found["bob"].category, found["bob"].needs_run) == (Category.STALE, False)


def test_a_student_who_left_and_one_whose_run_failed_are_named() -> None:
    found = rows(failed={"s-bob", "s-cyd"}, people=["ada", "bob"])
    assert [(name, row.category.value) for name, row in found.items()] == [
        ("bob", "infra_error"),
        ("ada", "up"),
        ("cyd", "left_course"),
        ("dan", "left_course"),
    ]
    assert [name for name, row in found.items() if row.needs_run] == ["bob"]


def test_members_of_a_group_are_chosen_together() -> None:
    team = {name: replace(NEW[name], grade=replace(NEW[name].grade, submission="s-team")) for name in ("cyd", "dan")}
    together = diff(rows(replace(SAME, new=NEW | team)))
    assert parted_group(together, {"ada", "cyd"}) == ("cyd", "dan")
    assert parted_group(together, {"ada", "cyd", "dan"}) is None
    assert parted_group(together, {"ada"}) is None
    assert parted_group(together, set()) is None


def test_the_flips_of_a_class_are_grouped() -> None:
    assert [group.sentence for group in diff(rows()).groups] == ["4 students: overflow failed → passed"]


def test_all_only_better_or_chosen_grades_are_published() -> None:
    new = {"ada": entry("ada", 3, "after"), "bob": entry("bob", 9, "after"), "cyd": entry("cyd", 5, "after")}
    found = diff(rows(replace(SAME, new=new | {"dan": entry("dan", 5)})), book(5, eve=entry("eve", 1)))
    assert points(entries_to_publish(found, Publish.ALL)) == {"ada": 3, "bob": 9, "cyd": 5, "dan": 5, "eve": 1}
    assert points(entries_to_publish(found, Publish.RAISE)) == {"ada": 5, "bob": 9, "cyd": 5, "dan": 5, "eve": 1}
    chosen = entries_to_publish(found, Publish.CHOSEN, students={"ada"})
    assert points(chosen) == {"ada": 3, "bob": 5, "cyd": 5, "dan": 5, "eve": 1}
    assert {each.student: each.execution for each in chosen}["cyd"] == "before", "an equal grade keeps its execution"


def test_infrastructure_errors_block_until_the_old_grades_are_kept() -> None:
    found = diff(rows(failed={"s-bob"}))
    with pytest.raises(InfraErrorsError, match="submissions of 1 student;"):
        entries_to_publish(found, Publish.ALL)
    kept = points(entries_to_publish(found, Publish.ALL, keep_old=True))
    assert kept == {"ada": 7, "bob": 5, "cyd": 7, "dan": 7}


def test_students_who_left_and_stale_ones_keep_their_grades() -> None:
    found = diff(rows(replace(SAME, present=book(5, bob=entry("bob", 6))), people=["ada", "bob", "cyd"]))
    present = {name: row.old for name, row in rows().items() if row.old}
    assert points(entries_to_publish(replace(found, present=present), Publish.ALL)) == {
        "ada": 7,
        "bob": 5,
        "cyd": 7,
        "dan": 5,
    }


def test_a_control_group_names_the_submissions_whose_second_result_differs() -> None:
    controls = [
        Control("s-ada", Checked("before", Decimal(1)), Checked("before", Decimal(1))),
        Control("s-bob", Checked("before", Decimal(1)), Checked("after", Decimal(1))),
        Control("s-cyd", Checked("before", Decimal(1)), Checked("before", None, is_gradable=False)),
    ]
    found = rows_of(SEEN, SAME, TESTS, failed=set(), people=NAMES, controls=controls)
    assert {row.student: row.is_unstable for row in found} == {"ada": False, "bob": True, "cyd": True, "dan": None}
    whole = diff_of(found, pointer=1, present=OLD, controls=controls, executions=TESTS)
    assert (whole.control, whole.unstable) == (3, ("s-bob", "s-cyd"))


BOOKS = st.fixed_dictionaries({name: st.integers(0, 9) for name in NAMES})


@given(BOOKS, BOOKS)
def test_only_raising_lowers_no_grade_and_raises_all_that_publishing_all_does(
    old: dict[str, int], new: dict[str, int]
) -> None:
    before = {name: entry(name, each) for name, each in old.items()}
    after = {name: entry(name, each, "after") for name, each in new.items()}
    found = diff(rows(Grades(before, before, before, after)), before)
    assert points(entries_to_publish(found, Publish.RAISE)) == {name: max(old[name], new[name]) for name in NAMES}
    assert points(entries_to_publish(found, Publish.ALL)) == new

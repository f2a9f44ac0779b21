"""The comparison of two grades, and of a class."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.comparison import (
    SEVERITY,
    CaseResult,
    Circumstances,
    Flip,
    Side,
    compare,
    flips_of,
    grouped,
    is_unstable,
    raises,
    results_of,
)
from broadway.domain.grade import Grade, GradeStatus
from broadway.domain.regrade_terms import Category
from broadway.domain.report import Report, Status

PASSED, FAILED = CaseResult(Status.PASSED, Decimal(1)), CaseResult(Status.FAILED, Decimal(0))


def side(points: float | None, tests: dict[str, CaseResult] | None = None, **more: Any) -> Side:
    """Return a grade with some tests."""
    status = GradeStatus.GRADED if points is not None else GradeStatus.NOT_COUNTED
    number = None if points is None else Decimal(str(points))
    return Side(Grade("ada", **{"status": status, "points": number, **more}), tests or {})


CHECKED = side(None, status=GradeStatus.GRADED)  # graded without points
EXCUSED = side(None, status=GradeStatus.EXCUSED)
CASES = [
    ("the same", side(7, {"a": PASSED}), side(7, {"a": PASSED}), Category.SAME),
    ("more points", side(7, {"a": FAILED}), side(9, {"a": PASSED}), Category.UP),
    ("fewer points", side(7, {"a": PASSED}), side(6.5, {"a": FAILED}), Category.DOWN),
    ("fewer points and more late days", side(7), side(6, late_days=1), Category.DOWN),
    ("other tests for the same points", side(7, {"a": PASSED}), side(7, {"b": PASSED}), Category.TESTS_CHANGED),
    (
        "another score of a test for the same points",
        side(7, {"a": PASSED}),
        side(7, {"a": CaseResult(Status.PASSED, Decimal(2))}),
        Category.TESTS_CHANGED,
    ),
    ("a result that is lost", side(7, {"a": PASSED}), side(None), Category.NEWLY_UNGRADABLE),
    ("a result of 0 that is lost", side(0), side(None), Category.NEWLY_UNGRADABLE),
    ("a first result", side(None), side(0), Category.NEWLY_GRADABLE),
    ("a first grade", None, side(3), Category.NEWLY_GRADABLE),
    ("nothing on both sides", None, side(None), Category.SAME),
    ("checked on both sides", CHECKED, CHECKED, Category.SAME),
    ("points for a checked result", CHECKED, side(1), Category.UP),
    ("late days for the same points", side(7), side(7, late_days=1), Category.LATE_CHANGED),
    ("days late for the same points", side(7, days_late=1), side(7), Category.LATE_CHANGED),
    (
        "excused on both sides",
        side(None, status=GradeStatus.EXCUSED),
        side(None, status=GradeStatus.EXCUSED),
        Category.SAME,
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "category"), CASES, ids=[case[0] for case in CASES])
def test_each_difference_has_its_category(name: str, old: Side | None, new: Side | None, category: Category) -> None:
    assert compare(old, new).category is category, name


def test_circumstances_decide_before_the_grades() -> None:
    old, new = side(7, {"a": PASSED}), side(1, {"a": FAILED})
    failed = Circumstances(has_failed=True)
    assert compare(old, new, failed).category is Category.INFRA_ERROR
    assert compare(old, new, Circumstances(has_failed=True, is_stale=True)).category is Category.STALE
    everything = Circumstances(has_failed=True, is_stale=True, has_left=True)
    assert compare(old, new, everything).category is Category.LEFT_COURSE
    assert compare(old, new, failed).flips == ()


def test_the_categories_are_in_the_order_of_their_severity() -> None:
    assert [each.value for each in sorted(Category, key=SEVERITY.__getitem__)] == [
        *("infra_error", "newly_ungradable", "down", "up", "tests_changed"),
        *("newly_gradable", "late_changed", "same", "stale", "left_course"),
    ]


def test_flips_name_the_tests_whose_status_changed_and_missing_ones() -> None:
    before = {"overflow": FAILED, "empty": PASSED, "old": PASSED}
    after = {"overflow": PASSED, "empty": PASSED, "new": FAILED}
    assert flips_of(before, after) == [
        Flip("new", None, Status.FAILED),
        Flip("old", Status.PASSED, None),
        Flip("overflow", Status.FAILED, Status.PASSED),
    ]
    assert flips_of(before, after)[2].sentence == "overflow failed → passed"
    assert flips_of(before, after)[0].sentence == "new missing → failed"


def test_lists_of_tests_are_bounded_and_their_numbers_are_not() -> None:
    before = {f"t{number:04}": FAILED for number in range(5000)}
    found = compare(side(0, before), side(0, dict.fromkeys(before, PASSED)))
    assert (len(found.flips), found.flips_count) == (100, 5000)
    rescored = {name: CaseResult(Status.FAILED, Decimal("0.5")) for name in before}
    found = compare(side(0, before), side(0, rescored))
    assert (len(found.rescored), found.rescored_count, found.flips_count) == (100, 5000, 0)


def test_a_class_is_grouped_by_the_flips_that_most_students_share() -> None:
    fixed, broken = Flip("overflow", Status.FAILED, Status.PASSED), Flip("empty", Status.PASSED, Status.FAILED)
    rows = [(f"s{number:02}", [fixed]) for number in range(12)] + [("s03", [broken]), ("s99", [])]
    first, second = grouped(rows)
    assert first.sentence == "12 students: overflow failed → passed"
    assert first.students == ("s00", "s01", "s02", "s03", "s04")
    assert (second.sentence, second.students) == ("1 student: empty passed → failed", ("s03",))


def test_a_control_group_is_unstable_if_anything_differs() -> None:
    assert not is_unstable(side(7, {"a": PASSED}), side(7, {"a": PASSED}))
    assert is_unstable(side(7, {"a": PASSED}), side(7, {"a": FAILED}))
    assert is_unstable(side(7), side(6))


def test_no_points_are_raised_by_any() -> None:
    assert raises(None, side(0).grade)
    assert raises(side(None).grade, side(0).grade)
    assert not raises(side(2).grade, side(2).grade)
    assert not raises(side(2).grade, None)


def test_tests_are_known_by_their_keys() -> None:
    text = '{"source":"junit","tests":[{"key":"g/a","name":{"body":"a"},"status":"failed","score":"1.5"}]}'
    assert results_of(Report.read(text)) == {"g/a": CaseResult(Status.FAILED, Decimal("1.5"))}
    assert results_of(None) == {}


RESULTS = st.builds(CaseResult, st.sampled_from(Status), st.none() | st.decimals(0, 3, places=1))
TESTS = st.dictionaries(st.sampled_from("abcdef"), RESULTS)
SIDES = st.none() | st.builds(
    lambda points, tests, late: side(points, tests, late_days=late),
    st.none() | st.integers(0, 9),
    TESTS,
    st.integers(0, 2),
)
MIRROR = {
    Category.UP: Category.DOWN,
    Category.DOWN: Category.UP,
    Category.NEWLY_GRADABLE: Category.NEWLY_UNGRADABLE,
    Category.NEWLY_UNGRADABLE: Category.NEWLY_GRADABLE,
}


@given(SIDES)
def test_nothing_differs_from_itself(one: Side | None) -> None:
    assert compare(one, one).category is Category.SAME


@given(SIDES, SIDES)
def test_the_comparison_in_the_other_direction_is_its_mirror(one: Side | None, other: Side | None) -> None:
    there, back = compare(one, other), compare(other, one)
    assert back.category is MIRROR.get(there.category, there.category)
    assert there.flips_count == back.flips_count
    assert there.rescored == back.rescored


@given(st.lists(st.tuples(st.text("xyz", min_size=1, max_size=3), TESTS, TESTS), max_size=8))
def test_the_groups_count_every_flip_once(rows: list[tuple[str, Any, Any]]) -> None:
    flips = [(student, flips_of(before, after)) for student, before, after in rows]
    assert sum(group.count for group in grouped(flips)) == sum(len(each) for _, each in flips)
    assert grouped(flips) == grouped(reversed(flips))

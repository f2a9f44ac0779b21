"""The comparison of a class's grades with those of a regrade: a category per student, and tests that flipped. Pure.

The worst category stands first: an error of the infrastructure says nothing about the student, a result that is lost or
worse needs a look, and one that is the same needs none.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from broadway.domain.grade import Grade, GradeStatus
from broadway.domain.regrade_terms import Category
from broadway.domain.report import Report, Status

MAX_FLIPS = 100  # of a row; a report may have 10,000 tests
MAX_GROUPS = 200  # of a class
MAX_NAMED = 5  # students of a group

_NO_POINTS = Decimal(-1)  # less than any grade


SEVERITY = {category: place for place, category in enumerate(Category)}


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of a test, as far as a comparison sees it."""

    status: Status
    score: Decimal | None = None


Tests = Mapping[str, CaseResult]


@dataclass(frozen=True, slots=True)
class Side:
    """A grade with the tests of the execution that it is about."""

    grade: Grade
    tests: Tests

    @property
    def is_graded(self) -> bool:
        """True if a result counts, with points or without, or staff has decided."""
        return self.grade.status in (GradeStatus.GRADED, GradeStatus.EXCUSED)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The state of a student's regrade, which decides before the grades do."""

    has_left: bool = False
    is_stale: bool = False
    has_failed: bool = False  # through the infrastructure


@dataclass(frozen=True, slots=True, order=True)
class Flip:
    """A test whose result changed. None stands for a test that the report does not have."""

    test: str
    before: Status | None
    after: Status | None

    @property
    def sentence(self) -> str:
        """The change, such as ``test_overflow failed → passed``."""
        return f"{self.test} {self.before or 'missing'} \N{RIGHTWARDS ARROW} {self.after or 'missing'}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference between two grades of a student.

    ``rescored`` has the tests with the same status and another score. Both lists are bounded; the numbers are not.
    """

    category: Category
    flips: tuple[Flip, ...] = ()
    flips_count: int = 0
    rescored: tuple[str, ...] = ()
    rescored_count: int = 0


@dataclass(frozen=True, slots=True)
class FlipGroup:
    """A change that several students share, and the first of them."""

    flip: Flip
    count: int
    students: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The group as a sentence, such as ``12 students: test_overflow failed → passed``."""
        return f"{self.count} {'student' if self.count == 1 else 'students'}: {self.flip.sentence}"


def results_of(report: Report | None) -> dict[str, CaseResult]:
    """Return the results of a report's tests by their keys."""
    return {} if report is None else {test.key: CaseResult(test.status, test.score) for test in report.tests}


def compare(old: Side | None, new: Side | None, circumstances: Circumstances = Circumstances()) -> Comparison:
    """Return the difference between a student's grade and the one after the regrade; None stands for no grade."""
    if circumstances.has_left:
        return Comparison(Category.LEFT_COURSE)
    if circumstances.is_stale:
        return Comparison(Category.STALE)
    if circumstances.has_failed:
        return Comparison(Category.INFRA_ERROR)
    before, after = old.tests if old else {}, new.tests if new else {}
    flips = flips_of(before, after)
    rescored = [test for test in sorted(before) if test in after and _is_rescored(before[test], after[test])]
    return Comparison(
        category=_category(old, new, are_tests_equal=not flips and not rescored),
        flips=tuple(flips[:MAX_FLIPS]),
        flips_count=len(flips),
        rescored=tuple(rescored[:MAX_FLIPS]),
        rescored_count=len(rescored),
    )


def flips_of(before: Tests, after: Tests) -> list[Flip]:
    """Return the tests whose status differs, by name."""
    flips = [Flip(test, _status(before, test), _status(after, test)) for test in sorted({*before, *after})]
    return [flip for flip in flips if flip.before is not flip.after]


def is_unstable(old: Side | None, control: Side | None) -> bool:
    """Return whether a second grading with the old config differs from the first one, so that neither says much."""
    return compare(old, control).category is not Category.SAME


def grouped(rows: Iterable[tuple[str, Sequence[Flip]]]) -> list[FlipGroup]:
    """Return the changes of a class, those of most students first.

    Args:
        rows: Students and the tests that flipped for each.
    """
    counts: Counter[Flip] = Counter()
    named: dict[Flip, list[str]] = {}
    for student, flips in sorted(rows, key=lambda row: row[0]):
        for flip in flips:
            counts[flip] += 1
            some = named.setdefault(flip, [])
            if len(some) < MAX_NAMED:
                some.append(student)
    first = sorted(counts.items(), key=lambda item: (-item[1], _order(item[0])))[:MAX_GROUPS]
    return [FlipGroup(flip, count, tuple(named[flip])) for flip, count in first]


def raises(old: Grade | None, new: Grade | None) -> bool:
    """Return whether the new grade is better than the old one; no points are less than any."""
    return _points(new) > _points(old)


def _category(old: Side | None, new: Side | None, *, are_tests_equal: bool) -> Category:
    was, is_ = bool(old and old.is_graded), bool(new and new.is_graded)
    if was != is_:
        return Category.NEWLY_UNGRADABLE if was else Category.NEWLY_GRADABLE
    before, after = _points(old.grade if old else None), _points(new.grade if new else None)
    if before != after:
        return Category.DOWN if after < before else Category.UP
    if not are_tests_equal:
        return Category.TESTS_CHANGED
    return Category.SAME if _lateness(old) == _lateness(new) else Category.LATE_CHANGED


def _points(grade: Grade | None) -> Decimal:
    return _NO_POINTS if grade is None or grade.points is None else grade.points


def _lateness(side: Side | None) -> tuple[int, int]:
    return (side.grade.days_late, side.grade.late_days) if side else (0, 0)


def _is_rescored(before: CaseResult, after: CaseResult) -> bool:
    return before.status is after.status and before.score != after.score


def _status(tests: Tests, test: str) -> Status | None:
    found = tests.get(test)
    return found.status if found else None


def _order(flip: Flip) -> tuple[str, str, str]:
    return flip.test, flip.before or "", flip.after or ""

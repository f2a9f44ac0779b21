"""The difference that a regrade makes to the grades of a class, and the entries that its publication has. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from broadway.domain.comparison import (
    SEVERITY,
    CaseResult,
    Circumstances,
    Comparison,
    FlipGroup,
    Side,
    compare,
    grouped,
    is_unstable,
    raises,
)
from broadway.domain.grade import Grade, GradeStatus
from broadway.domain.grade_book import BookEntry, changed_students
from broadway.domain.regrade import InfraErrorsError, Seen
from broadway.domain.regrade_terms import Category, Publish

Executions = Mapping[str, Mapping[str, CaseResult]]


@dataclass(frozen=True, slots=True)
class Grades:
    """The grades that a comparison is about, by student.

    ``base`` is the version that the regrade is compared with, or the draft if nothing was published. ``present`` is the
    published version now, or the draft. ``new`` is the draft with the results of the regrade.
    """

    base: Mapping[str, BookEntry]
    present: Mapping[str, BookEntry]
    draft: Mapping[str, BookEntry]
    new: Mapping[str, BookEntry]


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of an execution, without a policy."""

    execution: str
    points: Decimal | None
    is_gradable: bool = True


@dataclass(frozen=True, slots=True)
class Control:
    """A submission that was graded with the old config twice: first, and beside the regrade."""

    submission: str
    first: Checked
    second: Checked


@dataclass(frozen=True, slots=True)
class Row:
    """The difference for one student. ``old`` is the grade at the base, ``new`` that with the regrade.

    ``needs_run``: the student's submissions have changed, or the infrastructure failed, so a refresh grades again.
    ``is_unstable``: a submission of the student gave another result with the old config; None if it is in no control
    group.
    """

    student: str
    comparison: Comparison
    old: BookEntry | None
    new: BookEntry | None
    needs_run: bool = False
    is_unstable: bool | None = None

    @property
    def category(self) -> Category:
        """The category of the difference."""
        return self.comparison.category


@dataclass(frozen=True, slots=True)
class Diff:
    """The difference for a class: rows with the worst ones first, the changes that students share, and numbers.

    ``pointer`` is the number of the version that is published now, 0 if nothing is published. ``present`` are the
    entries that students without a row keep. ``configs`` and ``images`` are the digests of those by which the new
    grades were made.
    """

    pointer: int
    rows: Sequence[Row]
    groups: Sequence[FlipGroup]
    counts: Mapping[Category, int]
    present: Mapping[str, BookEntry]
    control: int = 0
    unstable: tuple[str, ...] = ()
    settings_version: int = 0
    configs: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    old_configs: tuple[str, ...] = ()
    old_images: tuple[str, ...] = ()

    @property
    def is_stale(self) -> bool:
        """True if a student of the regrade has changed since it ran."""
        return bool(self.counts.get(Category.STALE))

    @property
    def infra_errors(self) -> int:
        """The number of students with whose submissions the infrastructure failed."""
        return self.counts.get(Category.INFRA_ERROR, 0)


def rows_of(
    seen: Iterable[Seen],
    grades: Grades,
    executions: Executions,
    *,
    failed: Collection[str],
    people: Collection[str],
    controls: Sequence[Control],
) -> list[Row]:
    """Return the rows of a class, the worst first.

    Args:
        seen: The students of the regrade, as they were when their submissions were chosen.
        grades: The grades to compare.
        executions: The results of tests, by execution.
        failed: The submissions with which the infrastructure failed.
        people: The students of the roster.
        controls: The submissions of the control group.
    """
    unstable = {each.submission: _differs(each, executions) for each in controls}
    ran = list(seen)
    moved = set(changed_students(_only(grades.base, ran), _only(grades.present, ran)))
    rows = []
    for each in ran:
        draft = grades.draft.get(each.student)
        has_new_work = (draft.grade.submission if draft else None) != each.counting
        has_failed = any(submission in failed for submission in each.submissions)
        state = Circumstances(
            has_left=each.is_listed and each.student not in people,
            is_stale=has_new_work or each.student in moved,
            has_failed=has_failed,
        )
        old, new = grades.base.get(each.student), grades.new.get(each.student)
        checks = [unstable[submission] for submission in each.submissions if submission in unstable]
        rows.append(
            Row(
                each.student,
                compare(_side(old, executions), _side(new, executions), state),
                old,
                new,
                needs_run=(has_new_work or has_failed) and not state.has_left,
                is_unstable=any(checks) if checks else None,
            )
        )
    return sorted(rows, key=lambda row: (SEVERITY[row.category], row.student))


def diff_of(
    rows: Sequence[Row],
    *,
    pointer: int,
    present: Mapping[str, BookEntry],
    controls: Sequence[Control] = (),
    executions: Executions,
) -> Diff:
    """Return rows with their numbers, the changes that they share, and the result of the control group."""
    return Diff(
        pointer=pointer,
        rows=rows,
        groups=grouped((row.student, row.comparison.flips) for row in rows),
        counts=Counter(row.category for row in rows),
        present=present,
        control=len(controls),
        unstable=tuple(each.submission for each in controls if _differs(each, executions)),
    )


def entries_to_publish(
    diff: Diff, publish: Publish, *, students: Collection[str] = (), keep_old: bool = False
) -> list[BookEntry]:
    """Return the entries of the whole class after a publication; students without a row keep theirs.

    Args:
        diff: The difference.
        publish: The rows whose new grades are published.
        students: The students whose new grades are published, if they are chosen.
        keep_old: Keep the old grades of students with whose submissions the infrastructure failed.

    Raises:
        InfraErrorsError: There are such students, and their old grades are not kept.
    """
    if diff.infra_errors and not keep_old:
        raise InfraErrorsError(
            f"the infrastructure failed with submissions of {diff.infra_errors} "
            f"student{'' if diff.infra_errors == 1 else 's'}; "
            "refresh the regrade, or publish with their old grades (`keep_old`; --keep-old)"
        )
    entries = dict(diff.present)
    for row in diff.rows:
        if row.new is not None and _is_published(row, publish, students):
            entries[row.student] = row.new
    return sorted(entries.values(), key=lambda entry: entry.student)


def parted_group(diff: Diff, students: Collection[str]) -> tuple[str, str] | None:
    """Return a chosen student and one who is not chosen though both have the same submission, or None.

    The result of a submission holds for all members of a group from its publication.
    """
    chosen = {row.new.grade.submission: row.student for row in diff.rows if row.new and row.student in students}
    for row in diff.rows:
        submission = row.new.grade.submission if row.new else None
        if submission and submission in chosen and row.student not in students and row.category not in _KEPT:
            return chosen[submission], row.student
    return None


_KEPT = frozenset({Category.INFRA_ERROR, Category.STALE, Category.LEFT_COURSE})


def _is_published(row: Row, publish: Publish, students: Collection[str]) -> bool:
    if row.category in _KEPT:
        return False
    match publish:
        case Publish.ALL:
            return True
        case Publish.RAISE:
            return raises(row.old.grade if row.old else None, row.new.grade if row.new else None)
        case Publish.CHOSEN:
            return row.student in students


def _only(entries: Mapping[str, BookEntry], seen: Iterable[Seen]) -> dict[str, BookEntry]:
    return {each.student: entries[each.student] for each in seen if each.student in entries}


def _side(entry: BookEntry | None, executions: Executions) -> Side | None:
    return Side(entry.grade, executions.get(entry.execution or "", {})) if entry else None


def _differs(control: Control, executions: Executions) -> bool:
    return is_unstable(_of_work(control.first, executions), _of_work(control.second, executions))


def _of_work(checked: Checked, executions: Executions) -> Side:
    """Return a result as a grade."""
    status = GradeStatus.GRADED if checked.is_gradable else GradeStatus.NOT_COUNTED
    return Side(Grade("", status, checked.points), executions.get(checked.execution, {}))

"""The results of students' works: those of all jobs that grade a work, and the one of them that counts. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from broadway.domain.handed_in import HandedIn
from broadway.domain.job import Outcome
from broadway.domain.marks import Marks
from broadway.domain.work import OWN, Work, work_of


@dataclass(frozen=True, slots=True)
class Among:
    """The works of an assignment to read: those of some students, those since a time, or all.

    ``cuts`` are names of students between which all are read in parts, so that no question keeps a store from others.
    """

    students: tuple[str, ...] | None = None
    since: datetime | None = None
    cuts: tuple[str, ...] = ()


ALL = Among()


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receipt of a work: its id, the student or the group, and the time."""

    id: str
    student: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one generation of a job that grades a work.

    ``execution`` is the one that ended it, if any. ``marks`` are None if they are not known.
    """

    handed_in: HandedIn
    job: str
    generation: int
    outcome: Outcome
    finished_at: datetime
    execution: str | None = None
    marks: Marks | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Graded:
    """A work with the result that counts; ``result`` is None while it waits, and if it was not graded."""

    student: str
    work: Work
    result: Result | None = None


def graded(
    receipts: Iterable[Receipt],
    results: Iterable[Result],
    waiting: Iterable[HandedIn],
    *,
    points: Decimal | None,
    published: AbstractSet[str] = frozenset(),
) -> list[Graded]:
    """Return each work with its result.

    Args:
        receipts: The receipts of uploads.
        results: The results of all jobs of these works, and of pushes.
        waiting: The works of jobs that have not ended.
        points: The assignment's points, or None.
        published: The executions of published grades: a regrade's result counts if its execution is one of them.
    """
    known: dict[str, Receipt | HandedIn] = {each.id: each for each in receipts}
    found: dict[str, list[Result]] = {}
    for each in results:
        work = each.handed_in
        if not work.regrade or each.execution in published:
            if work.id in found:
                found[work.id].append(each)
            else:
                found[work.id] = [each]
                known.setdefault(work.id, work)
    open_works = {each.id: each for each in waiting if not each.regrade}
    return [
        _graded(receipt, found.get(identity, ()), points, is_open=identity in open_works)
        for identity, receipt in (open_works | known).items()
    ]


def unlike_works(receipts: Iterable[Receipt], results: Iterable[Result]) -> set[str]:
    """Return the works without a receipt whose results disagree on the student or the time: the receipt decides."""
    known = {each.id for each in receipts}
    first: dict[str, HandedIn] = {}
    found: set[str] = set()
    for each in results:
        work = each.handed_in
        other = first.setdefault(work.id, work)
        if other is not work and (other.student, other.at) != (work.student, work.at):
            found.add(work.id)
    return found - known


def decisive(results: Iterable[Result]) -> Result | None:
    """Return the last result that is the work's own, which no later failure of the infrastructure replaces, or None."""
    own = [each for each in results if each.outcome in OWN]
    return max(own, key=_order) if own else None


def with_result(graded_: Graded, result: Result | None, points: Decimal | None) -> Graded:
    """Return a work with one more result, which counts if it is the last one of the work's own."""
    if result is None or decisive([result, *([graded_.result] if graded_.result else [])]) is not result:
        return graded_
    work = work_of(graded_.work.id, graded_.work.at, result.outcome, result.marks or Marks(), points)
    return Graded(graded_.student, work, result)


def _graded(receipt: Receipt | HandedIn, found: Sequence[Result], points: Decimal | None, *, is_open: bool) -> Graded:
    is_one = len(found) == 1 and found[0].outcome is Outcome.SUCCEEDED
    result = found[0] if is_one else decisive(found)
    if result is not None:
        work = work_of(receipt.id, receipt.at, result.outcome, result.marks or Marks(), points)
        return Graded(receipt.student, work, result)
    last = None if is_open or not found else max(found, key=_order)
    return Graded(receipt.student, Work(receipt.id, receipt.at, last.outcome if last else None))


def _order(result: Result) -> tuple[datetime, int]:
    return result.finished_at, result.generation


def by_student(works: Iterable[Graded]) -> Mapping[str, list[Graded]]:
    """Return works by the student or the group that handed them in."""
    found: dict[str, list[Graded]] = {}
    for each in works:
        found.setdefault(each.student, []).append(each)
    return found

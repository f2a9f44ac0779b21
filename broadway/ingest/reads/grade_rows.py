"""Rows of a grade book's page: filters, order and pages, as the address of the page gives them. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from broadway.domain.grade import GradeStatus
from broadway.domain.grade_book import BookEntry, changed_students
from broadway.domain.pages import NumberedPage, numbered
from broadway.domain.status_line import StatusLine, Tone

Sort = Literal["student", "points", "status"]
STATUSES: Mapping[GradeStatus, StatusLine] = {
    GradeStatus.GRADED: StatusLine(Tone.GOOD, "graded"),
    GradeStatus.WAITING: StatusLine(Tone.WAITING, "waiting", "A submission is still to be graded."),
    GradeStatus.ERROR: StatusLine(Tone.OURS, "error on our side", "The result is open: run the job again."),
    GradeStatus.NOT_COUNTED: StatusLine(Tone.STUDENT, "nothing counts"),
    GradeStatus.NOT_SUBMITTED: StatusLine(Tone.NEUTRAL, "not submitted"),
    GradeStatus.EXCUSED: StatusLine(Tone.NEUTRAL, "excused"),
}


@dataclass(frozen=True, slots=True)
class GradeRow:
    """A student's entry in the grades that are shown, and in the published ones; at least one of them is there."""

    student: str
    entry: BookEntry | None
    published: BookEntry | None
    is_changed: bool

    @property
    def present(self) -> BookEntry:
        """The entry, or the published one of a student whom the grades do not have any more."""
        found = self.entry or self.published
        assert found is not None  # noqa: S101 - a row is made of one of them
        return found

    @property
    def status(self) -> StatusLine:
        """The status of the grade."""
        if self.entry is None:
            return StatusLine(Tone.NEUTRAL, "not in the class any more")
        return STATUSES[self.entry.grade.status]


@dataclass(frozen=True, slots=True)
class GradeFilter:
    """The rows that a page asks for. Empty values admit all rows."""

    find: str = ""
    status: str = ""
    changed: bool = False
    sort: Sort = "student"
    page: int = 1

    def admits(self, row: GradeRow) -> bool:
        """Return whether a row is one that the page asks for."""
        return (
            (not self.find or self.find.casefold() in row.student.casefold())
            and self.status in ("", row.status.word)
            and (row.is_changed or not self.changed)
        )


@dataclass(frozen=True, slots=True)
class GradeRows(NumberedPage[GradeRow]):
    """One page of rows, with the number of the changed ones and of the unsettled ones among all, and counts by word."""

    changed: int
    unsettled: int
    statuses: Sequence[tuple[StatusLine, int]]


_KEYS: dict[str, Callable[[GradeRow], Any]] = {
    "student": lambda row: row.student.casefold(),
    "points": lambda row: (row.present.grade.points is None, row.present.grade.points or 0, row.student.casefold()),
    "status": lambda row: (row.status.word, row.student.casefold()),
}


def grade_rows(entries: Sequence[BookEntry], published: Sequence[BookEntry] | None, wanted: GradeFilter) -> GradeRows:
    """Return the page of rows that a filter asks for.

    Nothing counts as changed while nothing is published.
    """
    now, then = ({each.student: each for each in some} for some in (entries, published or ()))
    changed = set() if published is None else set(changed_students(then, now))
    rows = [GradeRow(student, now.get(student), then.get(student), student in changed) for student in now.keys() | then]
    found = sorted((row for row in rows if wanted.admits(row)), key=_KEYS[wanted.sort])
    page, counts = numbered(found, wanted.page), Counter(row.status for row in rows)
    return GradeRows(
        items=page.items,
        count=page.count,
        page=page.page,
        changed=len(changed),
        unsettled=sum(bool(each.grade.unsettled) for each in entries),
        statuses=sorted(counts.items(), key=lambda item: (-item[1], item[0].word)),
    )

"""Grades as files: new ones, grades merged into the files of learning management systems, and changed sheets read."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from broadway.domain.grade_book import BookEntry
from broadway.domain.roster import Roster
from broadway.domain.sheets.adjusting import Preview, preview, version_in
from broadway.domain.sheets.applying import Plan, plan
from broadway.domain.sheets.entries import Entry, Written
from broadway.domain.sheets.from_book import entry_of, identifiers_in
from broadway.domain.sheets.merging import MergeChoice, Merged, merge
from broadway.domain.sheets.options import ExportChoice, StudentIs, exported
from broadway.ingest.reads.grades import GradeReads
from broadway.lifecycle.stores import AssignmentRosters
from broadway.runtime.threads import FewThreads

AT_ONCE = 2  # sheets that are made or read at the same time


class NoGradesError(LookupError):
    """The grade book has no such version; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Basis:
    """The grades of a sheet: those of the draft, of a version, or of the published version if there is no number."""

    is_draft: bool = False
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The version that a sheet's grades are of, with the time at which it was made; None for the draft."""

    version: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """The identifiers of students: variables besides the known ones, and the one that the names of students are."""

    extra: Sequence[str] = ()
    student_is: StudentIs | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """The changes in a sheet against the grades from which it was made, and those that can be made now."""

    origin: Origin
    preview: Preview
    plan: Plan


@dataclass(frozen=True, slots=True)
class GradeSheets:
    """Sheets of the grades of any course, a few at a time."""

    grades: GradeReads
    rosters: AssignmentRosters
    threads: FewThreads = field(default_factory=lambda: FewThreads(AT_ONCE, "sheets"))
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def export(
        self, course: str, assignment: str, basis: Basis, names: Names, choice: ExportChoice
    ) -> tuple[Written, Origin]:
        """Return grades as a new file.

        Raises:
            NoGradesError: There is no such version.
            SheetError: The grades or the title do not fit into such a file.
        """
        async with self.turns:
            found, origin = await self._found(course, assignment, basis)
            roster = await self.rosters.get(course, assignment)
            return await self.threads.run(lambda: exported(_entries(found, origin, roster, names), choice)), origin

    async def merge(
        self, course: str, assignment: str, basis: Basis, names: Names, data: bytes, choice: MergeChoice
    ) -> tuple[Merged, Origin]:
        """Return a file with grades in the cells of one column.

        Raises:
            NoGradesError: There is no such version.
            SheetError: The file is no sheet, or the column is not there; the text says where.
        """
        async with self.turns:
            found, origin = await self._found(course, assignment, basis)
            roster = await self.rosters.get(course, assignment)
            return await self.threads.run(lambda: merge(data, _entries(found, origin, roster, names), choice)), origin

    async def preview(
        self, course: str, assignment: str, basis: Basis | None, data: bytes, *, encoding: str
    ) -> Imported:
        """Compare a plain sheet with the grades from which it was made.

        Without a basis these are those of the version that the file names, or else of the draft.

        Raises:
            NoGradesError: There is no such version.
            SheetError: The file is no plain sheet; the text says where.
        """
        async with self.turns:
            if basis is None:
                number = await self.threads.run(version_in, data, encoding=encoding)
                basis = Basis(is_draft=number is None, number=number)
            found, origin = await self._found(course, assignment, basis)
            present = found if basis.is_draft else (await self.grades.draft(course, assignment)).entries

            def read() -> Imported:
                before, now = (_entries(each, origin, None, Names()) for each in (found, present))
                compared = preview(data, before, encoding=encoding)
                return Imported(origin, compared, plan(compared.adjustments, now, is_of_draft=basis.is_draft))

            return await self.threads.run(read)

    async def _found(self, course: str, assignment: str, basis: Basis) -> tuple[Sequence[BookEntry], Origin]:
        if basis.is_draft:
            return (await self.grades.draft(course, assignment)).entries, Origin()
        if basis.number is None:
            book = await self.grades.published(course, assignment)
            if book is None:
                raise NoGradesError(f"no grades of {assignment} are published; publish them, or ask for the draft")
        else:
            book = await self.grades.version(course, assignment, basis.number)
            if book is None:
                raise NoGradesError(f"{assignment} has no version {basis.number} of its grades; list the versions")
        return book.entries, Origin(book.version.number, book.version.at)


def _entries(found: Sequence[BookEntry], origin: Origin, roster: Roster | None, names: Names) -> list[Entry]:
    identifiers = identifiers_in(
        roster, [each.student for each in found], extra=names.extra, student_is=names.student_is
    )
    return [
        entry_of(
            each.grade,
            identifiers=identifiers[each.student],
            job=each.job or "",
            version=origin.version,
            published_at=origin.at,
        )
        for each in found
    ]

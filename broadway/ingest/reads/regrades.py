"""Reads of regrades: their progress, and the difference that they make to the grades of a class."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from broadway.domain.comparison import results_of
from broadway.domain.grade_book import BookEntry
from broadway.domain.handed_in import regrade_of
from broadway.domain.job import Attempt, Job, Outcome, Phase
from broadway.domain.marks import Marks
from broadway.domain.pages import Slice, cursor, sliced
from broadway.domain.regrade import Item, Part, PartKind, Regrade, RegradeState
from broadway.domain.regrade_diff import Checked, Control, Diff, Executions, Grades, diff_of, rows_of
from broadway.domain.report import Report
from broadway.domain.run import Run, job_id
from broadway.domain.work import graded_attempt
from broadway.ingest.reads.grades import GradeReads
from broadway.lifecycle.regrades import RegradeQueries
from broadway.lifecycle.stores import AssignmentRosters, JobsById
from broadway.runtime.threads import beside


class ReportsOfExecutions(Protocol):
    """Reports of many executions."""

    async def last_of_executions(self, execution_ids: Sequence[str]) -> dict[str, Report]:
        """Return the report of the last stage of each execution; those without one are left out."""


class RunSummariesById(Protocol):
    """Runs, many at a time."""

    async def summaries(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Return runs by id, without rosters and configs; unknown ids are left out."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The number of a regrade's jobs with those of its control group, and of those in parts that have ended."""

    jobs: int
    done: int


@dataclass(frozen=True, slots=True)
class RegradeReads:
    """Reads of the regrades of any course."""

    regrades: RegradeQueries
    grades: GradeReads
    rosters: AssignmentRosters
    jobs: JobsById
    runs: RunSummariesById
    reports: ReportsOfExecutions

    async def one(self, course: str, identity: str) -> Regrade | None:
        """Return a regrade of a course, or None."""
        return await self.regrades.get(course, identity)

    async def latest(self, course: str, assignment: str, *, after: str | None, limit: int) -> Slice[Regrade]:
        """Return a page of an assignment's regrades, latest first, without their configs.

        Raises:
            CursorError: ``after`` is not a cursor.
        """
        found = await self.regrades.latest(course, assignment, before=after, limit=limit + 1)
        return sliced(found, limit, lambda each: cursor(each.created_at, each.id))

    async def is_published(self, job: Job) -> bool:
        """Return whether students may see a job: it is of no regrade, or of one that is published."""
        if not (identity := regrade_of(job.handed_in)):
            return True
        regrade = await self.regrades.get(job.course, identity)
        return regrade is not None and regrade.state is RegradeState.PUBLISHED

    async def progress(self, regrade: Regrade) -> Progress:
        """Return the progress of a regrade."""
        parts = await self.regrades.parts(regrade)
        runs = await self.runs.summaries([part.run_id for part in parts])
        ended = {run.id for run in runs.values() if run.state.is_terminal}
        return Progress(
            sum(len(part.items) for part in parts), sum(len(part.items) for part in parts if part.run_id in ended)
        )

    async def diff(self, regrade: Regrade) -> Diff:
        """Return the difference that a regrade makes, now."""
        course, assignment = regrade.course, regrade.assignment
        parts = await self.regrades.parts(regrade)
        again, control = _jobs_of(parts, PartKind.NEW), _jobs_of(parts, PartKind.CONTROL)
        first = {item.submission: item for item in _items(parts, PartKind.CONTROL) if item.job}
        known = await self.jobs.get_many([*again.values(), *control.values(), *(each.job for each in first.values())])
        attempts = {each: attempt for each in again if (attempt := _attempt(known.get(again[each])))}
        executions = frozenset(attempt.execution_id for attempt in attempts.values())
        book = await self.grades.published(course, assignment)
        pointer = book.version.number if book else 0
        draft = await self.grades.draft(course, assignment)
        new = await replace(self.grades, regraded=executions).draft(course, assignment)
        present = _by_student(book.entries if book and book.entries else draft.entries)
        grades = Grades(
            base=present if regrade.base == pointer else await self._base(regrade, draft.entries),
            present=present,
            draft=_by_student(draft.entries),
            new=_by_student(new.entries),
        )
        seen = {each.student: each for part in parts for each in part.seen}
        roster = await self.rosters.get(course, assignment)
        pairs = {each: (_of_item(known, first.get(each)), _attempt(known.get(control[each]))) for each in control}
        reports = await self._reports(grades, seen, pairs.values())
        tests = await beside(len(reports), _tests, reports)
        rows = await beside(
            len(seen),
            lambda: rows_of(
                seen.values(),
                grades,
                tests,
                failed=again.keys() - attempts.keys(),
                people={person for entry in (roster.students if roster else ()) for person in entry.people},
                controls=_controls(pairs, reports),
            ),
        )
        found = diff_of(rows, pointer=pointer, present=present, controls=_controls(pairs, reports), executions=tests)
        return replace(
            found,
            settings_version=new.settings_version,
            configs=new.configs,
            images=new.images,
            old_configs=book.version.configs if book and book.entries else draft.configs,
            old_images=book.version.images if book and book.entries else draft.images,
        )

    async def _base(self, regrade: Regrade, draft: Iterable[BookEntry]) -> Mapping[str, BookEntry]:
        """Return the grades that a regrade is compared with, after another version was published."""
        book = await self.grades.version(regrade.course, regrade.assignment, regrade.base) if regrade.base else None
        return _by_student(book.entries if book and book.entries else draft)

    async def _reports(
        self,
        grades: Grades,
        seen: Iterable[str],
        pairs: Iterable[tuple[Attempt | None, Attempt | None]],
    ) -> dict[str, Report]:
        """Return the reports of the executions that are compared."""
        wanted = {attempt.execution_id for pair in pairs for attempt in pair if attempt}
        for student in seen:
            entries = (grades.base.get(student), grades.new.get(student))
            wanted |= {entry.execution for entry in entries if entry and entry.execution}
        return await self.reports.last_of_executions(sorted(wanted))


def _jobs_of(parts: Iterable[Part], kind: PartKind) -> dict[str, str]:
    """Return the jobs of a kind by submission; those of later plans replace earlier ones."""
    return {
        item.submission: job_id(part.run_id, Phase.STUDENTS, index)
        for part in parts
        if part.kind is kind
        for index, item in enumerate(part.items)
    }


def _items(parts: Iterable[Part], kind: PartKind) -> list[Item]:
    return [item for part in parts if part.kind is kind for item in part.items]


def _attempt(job: Job | None) -> Attempt | None:
    """Return the attempt of a job of a regrade whose result counts, or None."""
    return graded_attempt(job) if job else None


def _of_item(jobs: Mapping[str, Job], item: Item | None) -> Attempt | None:
    """Return the attempt that graded a submission before the regrade."""
    job = jobs.get(item.job) if item else None
    found = [each for each in job.attempts if item and each.execution_id == item.execution] if job else []
    return found[0] if found else None


def _by_student(entries: Iterable[BookEntry]) -> dict[str, BookEntry]:
    return {entry.student: entry for entry in entries}


def _tests(reports: Mapping[str, Report]) -> Executions:
    return {execution: results_of(report) for execution, report in reports.items()}


def _controls(
    pairs: Mapping[str, tuple[Attempt | None, Attempt | None]], reports: Mapping[str, Report]
) -> list[Control]:
    """Return the submissions that were graded with the old config twice."""
    return [
        Control(submission, _checked(first, reports), _checked(second, reports))
        for submission, (first, second) in pairs.items()
        if first and second
    ]


def _checked(attempt: Attempt, reports: Mapping[str, Report]) -> Checked:
    report = reports.get(attempt.execution_id)
    marks = attempt.marks or (Marks.of(report) if report else Marks())
    points = marks.score if marks.source else Decimal(attempt.outcome is Outcome.SUCCEEDED)
    return Checked(attempt.execution_id, points, is_gradable=marks.gradable)

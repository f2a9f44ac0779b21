"""Reads of regrades: their progress, and the difference that they make to the grades of a class."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Protocol

from broadway.domain.grade_book import BookEntry
from broadway.domain.handed_in import regrade_of
from broadway.domain.job import Attempt, Job, Outcome, Phase
from broadway.domain.marks import Marks
from broadway.domain.pages import Slice, cursor, sliced
from broadway.domain.regrade import Part, PartKind, Regrade
from broadway.domain.regrade_diff import Checked, Control, Diff, Executions, Grades, diff_of, rows_of
from broadway.domain.regrade_terms import RegradeState
from broadway.domain.results_of_work import Among, Result
from broadway.domain.run import job_id
from broadway.domain.work import OWN, graded_attempt
from broadway.ingest.reads.grades import GradeReads
from broadway.lifecycle.regrades import RegradeQueries
from broadway.lifecycle.stores import AssignmentRosters, JobsById, RunSummariesById
from broadway.runtime.threads import beside

KEPT = 5.0  # seconds for which the pages of a difference come from one read
MOST_KEPT = 8  # differences


class TestsOfExecutions(Protocol):
    """The results of tests of many executions."""

    async def results_of(self, executions: Sequence[str]) -> Executions:
        """Return the results of the tests of each execution's last report; those without one are left out."""


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
    tests: TestsOfExecutions
    _recent: dict[tuple[str, int], tuple[float, Diff]] = field(default_factory=dict)

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

    async def recent_diff(self, regrade: Regrade) -> Diff:
        """Return the difference that a regrade makes, as it was read at most a few seconds ago."""
        read_at, diff = self._recent.get((regrade.id, regrade.revision), (0.0, None))
        is_recent = time.monotonic() - read_at <= KEPT
        return diff if diff and is_recent else await self.diff(regrade)

    async def diff(self, regrade: Regrade) -> Diff:
        """Return the difference that a regrade makes, now."""
        diff = await self._diff(regrade)
        self._recent[regrade.id, regrade.revision] = time.monotonic(), diff
        while len(self._recent) > MOST_KEPT:
            del self._recent[next(iter(self._recent))]
        return diff

    async def _diff(self, regrade: Regrade) -> Diff:
        course, assignment = regrade.course, regrade.assignment
        parts = await self.regrades.parts(regrade)
        again = _jobs_of(parts, PartKind.NEW)
        results = await self._results(regrade, set(again.values()))
        book = await self.grades.published(course, assignment)
        pointer = book.version.number if book else 0
        draft, new = await self.grades.drafts(course, assignment, results)
        present = _by_student(book.entries if book and book.entries else draft.entries)
        grades = Grades(
            base=present if regrade.base == pointer else await self._base(regrade, draft.entries),
            present=present,
            draft=_by_student(draft.entries),
            new=_by_student(new.entries),
        )
        seen = {each.student: each for part in parts for each in part.seen}
        roster = await self.rosters.get(course, assignment)
        people = {person for entry in (roster.students if roster else ()) for person in entry.people}
        controls = await self._controls(parts)
        tests = await self._tests(grades, seen, controls)
        failed = again.keys() - results.keys()

        def compared() -> Diff:
            rows = rows_of(seen.values(), grades, tests, failed=failed, people=people, controls=controls)
            return diff_of(rows, pointer=pointer, present=present, controls=controls, executions=tests)

        return replace(
            await beside(len(seen), compared),
            settings_version=new.settings_version,
            configs=new.configs,
            images=new.images,
            old_configs=book.version.configs if book and book.entries else draft.configs,
            old_images=book.version.images if book and book.entries else draft.images,
        )

    async def _results(self, regrade: Regrade, jobs: Collection[str]) -> dict[str, Result]:
        """Return the results of a regrade's jobs by submission, as far as they count."""
        found: dict[str, Result] = {}
        among = Among(cuts=await self.grades.cuts(regrade.course, regrade.assignment))
        for each in await self.grades.works.works.results(regrade.course, regrade.assignment, among):
            if each.job in jobs and each.outcome in OWN:
                found[each.handed_in.id] = each
        return found

    async def _controls(self, parts: Sequence[Part]) -> list[Control]:
        """Return the submissions that were graded with the old config twice."""
        second = _jobs_of(parts, PartKind.CONTROL)
        first = {item.submission: item for part in parts if part.kind is PartKind.CONTROL for item in part.items}
        if not second:
            return []
        jobs = await self.jobs.get_many([*second.values(), *(each.job for each in first.values())])
        pairs = {
            each: (_attempt_of(jobs.get(item.job), item.execution), _graded(jobs.get(second[each])))
            for each, item in first.items()
        }
        return [Control(each, _checked(old), _checked(new)) for each, (old, new) in pairs.items() if old and new]

    async def _base(self, regrade: Regrade, draft: Iterable[BookEntry]) -> Mapping[str, BookEntry]:
        """Return the grades that a regrade is compared with, after another version was published."""
        book = await self.grades.version(regrade.course, regrade.assignment, regrade.base) if regrade.base else None
        return _by_student(book.entries if book and book.entries else draft)

    async def _tests(self, grades: Grades, seen: Iterable[str], controls: Iterable[Control]) -> Executions:
        """Return the results of the tests of the executions that are compared."""
        wanted = {checked.execution for each in controls for checked in (each.first, each.second)}
        for student in seen:
            entries = (grades.base.get(student), grades.new.get(student))
            wanted |= {entry.execution for entry in entries if entry and entry.execution}
        return await self.tests.results_of(sorted(wanted))


def _jobs_of(parts: Iterable[Part], kind: PartKind) -> dict[str, str]:
    """Return the jobs of a kind by submission; those of later plans replace earlier ones."""
    return {
        item.submission: job_id(part.run_id, Phase.STUDENTS, index)
        for part in parts
        if part.kind is kind
        for index, item in enumerate(part.items)
    }


def _graded(job: Job | None) -> Attempt | None:
    """Return the attempt of a job whose result counts, or None."""
    return graded_attempt(job) if job else None


def _attempt_of(job: Job | None, execution: str) -> Attempt | None:
    """Return an attempt of a job by its execution, or None."""
    return next((each for each in job.attempts if each.execution_id == execution), None) if job else None


def _by_student(entries: Iterable[BookEntry]) -> dict[str, BookEntry]:
    return {entry.student: entry for entry in entries}


def _checked(attempt: Attempt) -> Checked:
    marks = attempt.marks or Marks()
    points = marks.score if marks.source else Decimal(attempt.outcome is Outcome.SUCCEEDED)
    return Checked(attempt.execution_id, points, is_gradable=marks.gradable)

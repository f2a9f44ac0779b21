"""The table of a run for pages: a row for each job, with its score and its failed tests.

A row is made again if its job has changed, or runs. Rows of a run are shared by all who look at it, as the progress is,
and a table may be a second old: pages of runs that are not over go on by themselves. While readers keep looking, the
next table is made before the last one is too old, so that they do not wait for it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from broadway.domain.job import Job, JobState
from broadway.domain.originals import StageReport
from broadway.domain.parts import in_parts
from broadway.domain.progress import JobProgress, RunProgress
from broadway.domain.report import Report, Status
from broadway.domain.status_line import JobFacts, StatusLine, status_of
from broadway.domain.submission import student_of
from broadway.domain.visibility import Role, with_points
from broadway.ingest.reads.progress import ProgressReads, SharedProgress
from broadway.ingest.reads.reports import of_results
from broadway.ingest.reads.stores import JobQueries, ReportQueries
from broadway.lifecycle.stores import CurrentSettings, Stages
from broadway.runtime.refreshed import Refreshed

MAX_ROWS = 50_000  # of all remembered runs together
MAX_FAILED = 200  # names of failed tests that a row has
FRESH = 1.0  # seconds for which a table is used again
LOADED = 200  # jobs read at a time, so that others are served in between
MAX_CAUSE = 200  # characters
MAX_FORMS = 60  # of one table

Form = TypeVar("Form")
_FAILED = frozenset((Status.FAILED, Status.PARTIAL))


@dataclass(frozen=True, slots=True)
class RunRow:
    """A job as a row. ``seconds`` is the time that its last attempt took, ``waited`` that before its first start."""

    id: str
    phase: str
    index: int
    state: JobState
    student: str
    status: StatusLine
    attempts: int
    grader: str
    waited: float | None
    seconds: float | None
    started_at: datetime | None
    score: Decimal | None = None
    max: Decimal | None = None
    passed: int | None = None
    tests: int | None = None
    failed: tuple[str, ...] = ()

    @property
    def cause(self) -> str:
        """The first line of the reason of a job that is not graded, by which equal failures are grouped."""
        return self.status.sentence.strip().split("\n", 1)[0][:MAX_CAUSE]


@dataclass(frozen=True, slots=True)
class RunTable:
    """A run, its progress, and its rows in the order of phases and of the roster; readers share what they make of it.

    At most ``MAX_FORMS`` are kept.
    """

    progress: RunProgress
    rows: Sequence[RunRow]
    _forms: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def form(self, key: Hashable, make: Callable[[], Form]) -> Form:
        """Return a form of the table; it is made for the first reader who asks for it."""
        if key not in self._forms:
            while len(self._forms) >= MAX_FORMS:
                del self._forms[next(iter(self._forms))]
            self._forms[key] = make()
        found: Form = self._forms[key]
        return found


@dataclass(frozen=True, slots=True)
class _Result:
    score: Decimal | None = None
    max: Decimal | None = None
    passed: int | None = None
    tests: int | None = None
    failed: tuple[str, ...] = ()
    has_report: bool = False
    gradable: bool = True


@dataclass(slots=True)
class _Kept:
    """The rows of one run by job id, each with the job of which it was made."""

    rows: dict[str, tuple[JobProgress, RunRow]] = field(default_factory=dict)
    points: Decimal | None = None
    students: dict[str, str] = field(default_factory=dict)
    shared: SharedProgress | None = None
    table: RunTable | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    latest: Refreshed[RunTable | None] = field(init=False)


class RunTables:
    """Reads of the tables of the runs of any course."""

    def __init__(
        self,
        progress: ProgressReads,
        jobs: JobQueries,
        reports: ReportQueries,
        settings: CurrentSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._jobs = jobs
        self._reports = reports
        self._settings = settings
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()  # by course and run

    async def of_run(self, course: str, run_id: str) -> RunTable | None:
        """Return the table of a run of a course, at most a second old; None if the course has no such run."""
        table = await self._kept_of(course, run_id).latest.get()
        if table is None:
            self._kept.pop((course, run_id), None)
        self._forget()
        return table

    async def of_progress(self, shared: SharedProgress) -> RunTable:
        """Return the table of a run whose progress was read, or a later one that this process has."""
        run = shared.progress.run
        kept = self._kept_of(run.course, run.id)
        async with kept.lock:
            if kept.table is None or kept.shared is None or kept.shared.read_at < shared.read_at:
                table = await self._made(kept, shared)
                kept.latest.put(table, shared.read_at)
            else:
                table = kept.table
        self._forget()
        return table

    def _kept_of(self, course: str, run_id: str) -> _Kept:
        key = (course, run_id)
        if key not in self._kept:
            kept = self._kept[key] = _Kept()
            kept.latest = Refreshed(lambda: self._read(course, run_id, kept), fresh=FRESH, clock=self._clock)
        self._kept.move_to_end(key)
        return self._kept[key]

    async def _read(self, course: str, run_id: str, kept: _Kept) -> tuple[RunTable | None, float]:
        begun = self._clock()
        shared = await self._progress.of_run(course, run_id)
        if shared is None:
            return None, begun
        async with kept.lock:
            # A remembered progress was read earlier, and holds at the time of the question.
            return await self._made(kept, shared), max(begun, shared.read_at)

    async def _made(self, kept: _Kept, shared: SharedProgress) -> RunTable:
        """Return the table of a progress: the last table, if it is of the same one."""
        if kept.shared is not shared or kept.table is None:
            kept.table, kept.shared = RunTable(shared.progress, await self._rows(shared.progress, kept)), shared
        return kept.table

    def _forget(self) -> None:
        size = sum(len(kept.rows) for kept in self._kept.values())
        while size > MAX_ROWS and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            size -= len(oldest.rows)

    async def _rows(self, progress: RunProgress, kept: _Kept) -> list[RunRow]:
        points = (await self._settings.current(progress.run.course, progress.run.assignment)).settings.points
        if points != kept.points:
            kept.rows.clear()
            kept.points = points
        stale = [
            job for job in progress.jobs if job.state is JobState.RUNNING or not _is_of(kept.rows.get(job.id), job)
        ]
        for some in in_parts(stale, LOADED):
            for job, row in zip(some, await self._loaded(some, kept, progress, points), strict=True):
                kept.rows[job.id] = (job, row)
        return [kept.rows[job.id][1] for job in progress.jobs]

    async def _loaded(
        self, some: Sequence[JobProgress], kept: _Kept, progress: RunProgress, points: Decimal | None
    ) -> list[RunRow]:
        begun = [job.id for job in some if job.started_at or job.is_terminal]
        jobs = await self._jobs.with_results(begun) if begun else {}
        ended = [job.execution_id for job in jobs.values() if job.is_terminal and job.execution_id]
        reports = await self._reports.of_executions(ended) if ended else {}
        if unknown := [job.id for job in some if job.id not in kept.students]:
            kept.students |= self._students(unknown, await self._jobs.stages(unknown), progress)
        rows = []
        for each in some:
            job = jobs.get(each.id)
            found = _reported(job, reports) if job and job.is_terminal else None
            result = _result(found.reported.report, points) if found and found.reported.report else _Result()
            rows.append(_row(each, job, kept.students.get(each.id, ""), result))
        return rows

    @staticmethod
    def _students(ids: Sequence[str], stages: Mapping[str, Stages], progress: RunProgress) -> dict[str, str]:
        submitter = str((progress.run.trigger or {}).get("student") or "")
        return {identity: student_of(stages.get(identity, [])) or submitter for identity in ids}


def _reported(job: Job, reports: Mapping[str, Sequence[StageReport]]) -> StageReport | None:
    """Return the report of the last stage that has one, or that in the job's own results."""
    stored = reports.get(job.execution_id or "")
    return max(stored, key=lambda each: each.stage) if stored else of_results(job)


def _is_of(kept: tuple[JobProgress, RunRow] | None, job: JobProgress) -> bool:
    """Return whether an earlier row is that of a job. Most jobs that have ended are the same objects as before."""
    return kept is not None and (kept[0] is job or kept[0] == job)


def _result(report: Report, points: Decimal | None) -> _Result:
    report, _ = with_points(report, points)
    counted = [test for test in report.tests if test.status not in (Status.INFO, Status.SKIPPED)]
    return _Result(
        score=report.score,
        max=report.max,
        passed=sum(test.status is Status.PASSED for test in counted) if counted else None,
        tests=len(counted) or None,
        failed=tuple(test.key for test in counted if test.status in _FAILED)[:MAX_FAILED],
        has_report=True,
        gradable=report.gradable,
    )


def _row(progress: JobProgress, job: Job | None, student: str, result: _Result) -> RunRow:
    facts = JobFacts(
        progress.state,
        progress.outcome,
        has_report=result.has_report,
        gradable=result.gradable,
        attempts=job.starts if job else 0,
        reason=job.reason if job else "",
    )
    started = progress.started_at
    return RunRow(
        id=progress.id,
        phase=progress.phase.value,
        index=progress.index,
        state=progress.state,
        student=student,
        status=status_of(facts, Role.STAFF),
        attempts=job.starts if job else 0,
        grader=(job.grader_id or "") if job else "",
        waited=(started - progress.queued_at).total_seconds() if started else None,
        seconds=job.seconds if job and job.is_terminal else None,
        started_at=started,
        score=result.score,
        max=result.max,
        passed=result.passed,
        tests=result.tests,
        failed=result.failed,
    )

"""The contents of the page of a job, as its reader may see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import urlencode

from starlette.requests import Request

from broadway.domain.abilities import obstacle
from broadway.domain.access import Kind
from broadway.domain.artifacts import Manifest
from broadway.domain.job import Attempt, Job
from broadway.domain.report import ReportedTest, Status, Text
from broadway.domain.result import StageResult
from broadway.domain.status_line import JobFacts, StatusLine, facts_of, of_points, score_of, status_of
from broadway.domain.submission import Submission, student_of, submission_of
from broadway.domain.totals import why_total
from broadway.domain.visibility import Role, logs_seen
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import Access, grant
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.scope import may_read
from broadway.ingest.reads.grades import BookedEntry
from broadway.ingest.reads.log_lines import log_lines
from broadway.ingest.reads.reports import ShownReport
from broadway.ingest.reads.waiting import Place
from broadway.ingest.ui.charts import Bar, phase_bars
from broadway.ingest.ui.endpoint import NOTHING_HERE, visitor
from broadway.lifecycle.stores import Stages
from broadway.messages.resources.jobs import LogLine

LINES = 1000  # of a log on one page
TESTS = 500  # on one page
OPEN = 20  # tests whose texts are open
_FAILED = frozenset((Status.FAILED, Status.PARTIAL))


@dataclass(frozen=True, slots=True)
class Log:
    """A page of a log: its lines with their numbers, the number of all lines, and the grader's own messages."""

    lines: Sequence[tuple[int, LogLine]] = ()
    count: int = 0
    start: int = 1
    error: str = ""
    is_shown: bool = True


@dataclass(frozen=True, slots=True)
class JobPage:
    """All that the page of a job shows, as its reader may see it."""

    job: Job
    course: str
    student: str
    role: Role
    is_staff: bool
    attempt: Attempt | None
    status: StatusLine
    shown: ShownReport | None
    score: str
    why: str
    log: Log
    stages: Sequence[tuple[dict[str, object], StageResult]]
    bars: Sequence[Bar]
    submission: Submission | None
    manifest: Manifest | None
    is_live: bool
    awaits_log: bool
    only: str
    numbers: Sequence[tuple[int, Attempt]]
    booked: BookedEntry | None

    @property
    def attempt_number(self) -> int | None:
        """The number of the attempt that is shown, or None."""
        return next((number for number, each in self.numbers if each is self.attempt), None)

    @property
    def _wanted(self) -> list[ReportedTest]:
        seen = self.shown.seen if self.shown else None
        tests = seen.report.tests if seen else []
        return [test for test in tests if not self.only or (test.status is Status.PASSED) is (self.only == "passed")]

    @property
    def tests(self) -> Sequence[ReportedTest]:
        """The tests that are shown: those that have not passed first, then in the order of the report."""
        return sorted(self._wanted, key=lambda test: test.status not in _FAILED)[:TESTS]

    @property
    def tests_left(self) -> int:
        """The number of tests that are too many for the page."""
        return max(0, len(self._wanted) - TESTS)

    def texts(self, test: ReportedTest) -> Sequence[tuple[str, Text]]:
        """Return the texts of a test that have any content, with their names."""
        given = (("message", test.message), ("output", test.output))
        return [(name, text) for name, text in given if text and text.body.strip()]

    def opens(self, test: ReportedTest) -> bool:
        """Return whether a test is among the first that have not passed, whose texts are open."""
        return test in self.tests[:OPEN]

    def anchor(self, test: ReportedTest) -> str:
        """Return the id of a test's element, which is the same in every attempt."""
        return f"t-{sha256(test.key.encode()).hexdigest()[:10]}"

    def log_link(self, start: int) -> str:
        """Return the address of the lines of the log from one on."""
        given: dict[str, object] = {"from": max(1, start)}
        if self.attempt_number is not None and self.numbers[-1][1] is not self.attempt:
            given["attempt"] = self.attempt_number
        if self.is_staff and self.role is Role.STUDENT:
            given["view"] = self.role.value
        return f"/ui/j/{self.job.id}?{urlencode(given)}"


@dataclass(frozen=True, slots=True)
class Own:
    """A job that the visitor may see: its course, its stages, its student or group, the student who reads, the role."""

    course: str
    job: Job
    stages: Stages
    student: str
    reader: str
    role: Role


async def own_job(request: Request, deps: Deps) -> Own:
    """Return the job in the path; a student's session finds the student's own only, and none of an unpublished regrade.

    Raises:
        Refused: 404.
    """
    session = visitor(request)
    found = await deps.reads.jobs.in_courses(session.courses, request.path_params["job"])
    if found is None:
        notes = [await deps.reads.removed.noted(request.path_params["job"], each) for each in session.courses]
        raise Refused(404, next((note.text for note in notes if note), NOTHING_HERE))
    course_id, job = found
    course = await deps.authenticator.recent_courses.get(course_id)
    if course is None:
        raise Refused(404, NOTHING_HERE)
    grant(request, Access(session.principal(course.id), (course,)))
    stages = (await deps.reads.jobs.with_stages(job)).stages
    student = student_of(stages) or ""
    is_student = session.kind is Kind.STUDENT
    is_seen = await may_read(request, deps, job.assignment, student)
    if not is_seen or (is_student and not await deps.reads.regrades.is_published(job)):
        raise Refused(404, NOTHING_HERE)
    as_student = is_student or request.query_params.get("view") == Role.STUDENT.value
    role = Role.STUDENT if as_student else Role.STAFF
    return Own(course.id, job, stages, student, session.student or student, role)


async def page_of(request: Request, deps: Deps, own: Own) -> JobPage:
    job, role = own.job, own.role
    attempt = attempt_of(request, job)
    shown = await report_of(deps, own, attempt)
    place = None if job.is_terminal else await deps.reads.waiting.place(job)
    graders = None if job.is_terminal else await deps.reads.graders.alive()
    waits_for = "" if graders is None or job.started_at else obstacle(job.pool, job.needs, graders)
    results = [StageResult.read(entry) for entry in job.results or []]
    stages = [
        (dict(stage), results[index] if index < len(results) else StageResult())
        for index, stage in enumerate(own.stages)
    ]
    identity = submission_of(own.stages)
    report = shown.seen.report if shown and shown.seen else None
    score, limit = (report.score, report.max) if report else (None, None)
    if report is None and role is Role.STAFF:
        score, limit = score_of(job.results or [])
    return JobPage(
        job=job,
        course=own.course,
        student=own.student,
        role=role,
        is_staff=visitor(request).kind is Kind.COURSE,
        attempt=attempt,
        status=status_of(_facts(job, place, waits_for), role),
        shown=shown,
        score=of_points(score, limit),
        why=why_total(report, role) if report else "",
        log=await _log(request, deps, own, attempt, shown),
        stages=stages if role is Role.STAFF else (),
        bars=phase_bars(job, results, datetime.now(UTC)),
        submission=await deps.reads.submissions.one(own.course, identity) if identity else None,
        manifest=await artifacts_of(deps, job, attempt) if role is Role.STAFF else None,
        is_live=not job.is_terminal,
        awaits_log=await deps.reads.jobs.awaits_log(job),
        only=_only(request),
        numbers=list(enumerate(job.attempts, 1)),
        booked=await _booked(deps, own),
    )


async def _booked(deps: Deps, own: Own) -> BookedEntry | None:
    """Return the published grade of the job's reader, if the job's result is the one that counts."""
    found = await deps.reads.grades.booked_entry(own.course, own.job.assignment, own.reader) if own.reader else None
    return found if found and found.entry and found.entry.job == own.job.id else None


def _facts(job: Job, place: Place | None, waits_for: str) -> JobFacts:
    if place is None:
        return facts_of(job, waits_for=waits_for)
    return facts_of(job, ahead=place.ahead, wait=place.wait, waits_for=waits_for)


def _only(request: Request) -> str:
    wanted = request.query_params.get("tests", "")
    return wanted if wanted in ("failed", "passed") else ""


def attempt_of(request: Request, job: Job) -> Attempt | None:
    """Return the attempt that the address names by its number; without one, the attempt that ended the job.

    Raises:
        Refused: 404, the job has no such attempt.
    """
    wanted = request.query_params.get("attempt")
    if wanted is None:
        return next((each for each in job.attempts if each.execution_id == job.execution_id), None)
    if not (wanted.isascii() and wanted.isdecimal()) or not 1 <= int(wanted[:6]) <= len(job.attempts):
        raise Refused(404, "this job has no such attempt")
    return job.attempts[int(wanted) - 1]


async def report_of(deps: Deps, own: Own, attempt: Attempt | None) -> ShownReport | None:
    standing = await deps.reads.standings.of_report(own.course, own.job.assignment, own.reader)
    return await deps.reads.reports.shown(own.job, attempt.execution_id if attempt else None, own.role, standing)


async def _log(request: Request, deps: Deps, own: Own, attempt: Attempt | None, shown: ShownReport | None) -> Log:
    """Return a page of the log of an attempt, of the stages whose logs the reader may see."""
    lines, error = await lines_of(deps, own, attempt, shown)
    if lines is None:
        return Log(is_shown=False)
    wanted = request.query_params.get("from", "1")
    start = int(wanted[:9]) if wanted.isascii() and wanted.isdecimal() else 1
    start = min(max(1, start), max(1, len(lines)))
    return Log(lines[start - 1 : start - 1 + LINES], len(lines), start, error if own.role is Role.STAFF else "")


async def lines_of(
    deps: Deps, own: Own, attempt: Attempt | None, shown: ShownReport | None
) -> tuple[Sequence[tuple[int, LogLine]] | None, str]:
    """Return the numbered lines that a reader may see, or None, and the grader's messages."""
    seen = logs_seen(own.stages, shown.log_stage if shown else None)
    if own.role is Role.STUDENT and not seen:
        return None, ""
    reads = deps.reads.jobs
    kept = await (reads.log_of_attempt(own.job, attempt.execution_id) if attempt else reads.log(own.job))
    if kept is None:
        return [], ""
    lines = list(log_lines(kept.stdout, kept.streams))
    if own.role is Role.STUDENT:
        lines = [line for line in lines if line.stage in seen]
    return list(enumerate(lines, 1)), kept.stderr


async def artifacts_of(deps: Deps, job: Job, attempt: Attempt | None) -> Manifest | None:
    return await deps.reads.artifacts.of_attempt(job, attempt.execution_id) if attempt else None

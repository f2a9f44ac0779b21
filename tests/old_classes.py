"""Classes whose works are old: each submission has a run of its own that has ended, with a report and a log."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from classes import CONFIG, Class, HandIn
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.originals import OriginalFile, Reported, StageReport
from broadway.domain.report import Report
from broadway.domain.result import JobLog
from broadway.domain.retention import Policy
from broadway.domain.run import Run, RunState
from broadway.ingest.commands.grades import GradeChanges, PublishOrder
from broadway.ingest.commands.retention_pass import Counts, CoursePass, Turn
from broadway.ingest.retention_composition import old_of

DUE = datetime(2026, 11, 20, tzinfo=UTC)
BEST: dict[str, Any] = {"points": 10, "policy": {"deadline": {"due": "2026-11-20T00:00"}, "counts": "best"}}
BEFORE_DUE = DUE - timedelta(days=1)
REPORT = Report.model_validate({"source": "autolab", "score": 1, "max": 10, "tests": []})
LATER = timedelta(days=400)  # after which all of this is old
OF_BOOKS = ("grade_entries", "grade_book", "grade_book_published")

Database = AsyncDatabase[dict[str, Any]]


def run_of(course: str, work: str) -> str:
    """Return the id of the run that grades a work."""
    return hashlib.sha256(f"{course}/{work}".encode()).hexdigest()[:24]


class OldClass(Class):
    """A class whose submissions each have a run, as those that start at once."""

    async def hand_in_old(self, *handed_in: HandIn) -> None:
        for each in handed_in:
            assert await self.store.submissions.add(self.submitted(each))
            await self.graded(each)

    async def graded(self, each: HandIn, *, run: str | None = None, **more: Any) -> str:
        """Grade a submission with a run; return the job."""
        identity = run or run_of(self.course, f"{each.student}-{each.number}")
        (job,) = await self.grade([each], run=identity)
        execution, now = f"e-{job}", datetime.now(UTC)
        file = OriginalFile.of("results.json", f"{self.course} {each.student} {each.number}".encode())
        await self.store.reports.put_files([file])
        reported = Reported(report=REPORT, files=[file])
        await self.store.reports.put([StageReport(job, execution, 0, reported)])
        await self.store.logs.put([JobLog(job, execution, "printed", "", ())])
        run_ = Run(
            identity,
            self.course,
            self.assignment,
            RunState.FINISHED,
            now,
            CONFIG,
            [],
            finished_at=now,
            students=1,
            **more,
        )
        assert await self.store.runs.insert(run_)
        return job

    async def publish(self) -> None:
        order = PublishOrder(based_on=0, by="staff")
        await GradeChanges(self.store.grades.books, self.reads).publish_draft(self.course, self.assignment, order)

    async def make_pass(
        self, *, is_dry: bool = False, later: timedelta = LATER, turn: Turn | None = None, **rules: int
    ) -> Counts:
        """Apply rules long after now; ``turn`` is called before each batch."""

        async def pass_on() -> None:
            return

        now = datetime.now(UTC) + later
        return await CoursePass(old_of(self.store), self.course, Policy(**rules), now, is_dry, turn or pass_on).make()


async def books_of(database: Database, course: str) -> str:
    """Return a digest of all that the grade books of a course are made of."""
    versions = await database["grade_book"].find({"course": course}).sort("_id", 1).to_list()
    chunks = sorted({chunk[0] for each in versions for chunk in each["chunks"]})
    entries = await database["grade_entries"].find({"_id": {"$in": chunks}}).sort("_id", 1).to_list()
    pointers = await database["grade_book_published"].find({"course": course}).sort("_id", 1).to_list()
    return hashlib.sha256(repr((versions, entries, pointers)).encode()).hexdigest()

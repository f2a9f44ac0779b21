"""The home of a student: the assignments of a course, and the student's submissions with their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass

from broadway.domain.assignment_settings import AssignmentSettings
from broadway.domain.job import Job
from broadway.domain.pages import Slice
from broadway.domain.submission import SubmissionHead
from broadway.domain.webhook import Delivery
from broadway.ingest.reads.assignments import AssignmentReads
from broadway.ingest.reads.submissions import SubmissionReads

MOST_ASSIGNMENTS = 100


@dataclass(frozen=True, slots=True)
class HandedInWork:
    """A submission, the decision about it, and the job that grades it; None before there is one."""

    submission: SubmissionHead
    delivery: Delivery | None
    job: Job | None


@dataclass(frozen=True, slots=True)
class StudentAssignment:
    """An assignment as one of its students sees it, with the latest submission."""

    name: str
    settings: AssignmentSettings
    latest: HandedInWork | None


@dataclass(frozen=True, slots=True)
class StudentHomes:
    """Reads of the work of students."""

    assignments: AssignmentReads
    submissions: SubmissionReads

    async def of(self, course: str, student: str) -> Sequence[StudentAssignment]:
        """Return the assignments whose roster has a student, or that have no roster, by name."""
        names = (await self.assignments.names(course, after=None, limit=MOST_ASSIGNMENTS)).items
        found = [await self.one(course, name, student) for name in names]
        return [each for each in found if each]

    async def one(self, course: str, assignment: str, student: str) -> StudentAssignment | None:
        """Return an assignment of a student, or None."""
        if await self.assignments.config(course, assignment) is None:
            return None
        work = await self.work(course, assignment, student, after=None, limit=1)
        roster = await self.assignments.roster(course, assignment)
        if roster is not None and roster.of_student(student) is None and not work.items:
            return None
        settings = (await self.assignments.settings(course, assignment)).settings
        return StudentAssignment(assignment, settings, next(iter(work.items), None))

    async def work(
        self, course: str, assignment: str, student: str, *, after: str | None, limit: int
    ) -> Slice[HandedInWork]:
        """Return a page of a student's submissions, latest first, with their jobs.

        Raises:
            CursorError: ``after`` is not a cursor.
        """
        page = await self.submissions.latest(course, assignment, student=student, after=after, limit=limit)
        return Slice([await self._with_job(course, head) for head in page.items], page.next)

    async def _with_job(self, course: str, head: SubmissionHead) -> HandedInWork:
        delivery = await self.submissions.delivery(course, head)
        return HandedInWork(head, delivery, await self.submissions.job(delivery) if delivery else None)

"""Reads of all that a student or a group has handed in for an assignment: uploads and pushes, with their jobs."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from broadway.domain.job import Attempt, Job, Outcome, Phase
from broadway.domain.marks import Marks
from broadway.domain.submission import UPLOADS, SubmissionHead
from broadway.domain.webhook import Delivery, DeliveryState
from broadway.domain.work import Work, graded_attempt, work_of
from broadway.ingest.reads.reports import stored_marks
from broadway.ingest.reads.stores import ReportQueries
from broadway.ingest.reads.submissions import SubmissionQueries

MOST = 1000  # submissions of a student or a group for an assignment, the latest

_NOT_TAKEN = frozenset(
    {DeliveryState.DUPLICATE, DeliveryState.IGNORED, DeliveryState.LIMITED, DeliveryState.REFUSED}
    | {DeliveryState.UNMATCHED}
)


class DeliveriesOfStudents(Protocol):
    """Queries on the deliveries of students."""

    async def latest_of_student(self, course: str, assignment: str, student: str, *, limit: int) -> list[Delivery]:
        """Return a student's decided deliveries for an assignment, latest first, without bodies."""


class JobsOfManyRuns(Protocol):
    """Queries on the jobs of several runs."""

    async def of_runs(self, run_ids: Sequence[str]) -> Mapping[str, list[Job]]:
        """Return the jobs of runs by run, in the order of phases, without stages and results."""


@dataclass(frozen=True, slots=True)
class HandedInWork:
    """An upload or a push: its delivery, None while that is missing, and the job that grades it, if there is one.

    ``id`` is that of the upload. A push has its job's, as in grades, or its delivery's while it has no job.
    """

    id: str
    student: str
    at: datetime
    version: str
    is_upload: bool
    delivery: Delivery | None = None
    job: Job | None = None

    @property
    def is_taken(self) -> bool:
        """True if it is graded, or is going to be."""
        return self.delivery is None or self.delivery.state not in _NOT_TAKEN

    @property
    def outcome(self) -> Outcome | None:
        """The outcome that counts, or the last one; None while it waits."""
        if self.delivery and self.delivery.state is DeliveryState.SUPERSEDED:
            return Outcome.SUPERSEDED
        counts = graded_attempt(self.job) if self.job else None
        return counts.outcome if counts else self.job.outcome if self.job else None


@dataclass(frozen=True, slots=True)
class HandedInReads:
    """Reads of uploads and pushes."""

    submissions: SubmissionQueries
    deliveries: DeliveriesOfStudents
    jobs: JobsOfManyRuns
    reports: ReportQueries

    async def of_names(self, course: str, assignment: str, names: Iterable[str]) -> list[HandedInWork]:
        """Return the uploads and pushes below some names, latest first, at most ``MOST`` of each name."""
        parts = await asyncio.gather(*(self._of_name(course, assignment, name) for name in sorted(names)))
        found = [each for part in parts for each in part]
        return sorted(found, key=lambda each: (each.at, each.id), reverse=True)

    async def works(self, found: Sequence[HandedInWork], points: Decimal | None) -> list[Work]:
        """Return uploads and pushes as works, with their results; those that are not taken are left out."""
        return list(await asyncio.gather(*(self._work(each, points) for each in found if each.is_taken)))

    async def _of_name(self, course: str, assignment: str, name: str) -> list[HandedInWork]:
        heads, deliveries = await asyncio.gather(
            self.submissions.latest(course, assignment, student=name, before=None, limit=MOST),
            self.deliveries.latest_of_student(course, assignment, name, limit=MOST),
        )
        by_upload = {each.delivery_id: each for each in deliveries if each.hook.startswith(UPLOADS)}
        pushes = [each for each in deliveries if not each.hook.startswith(UPLOADS)]
        runs = [each.run_id for each in deliveries if each.run_id and each.state is DeliveryState.ACCEPTED]
        jobs = {
            run_id: next((job for job in found if job.phase is Phase.STUDENTS), None)
            for run_id, found in (await self.jobs.of_runs(runs)).items()
        }
        return [
            *(_upload(each, by_upload.get(each.id), jobs) for each in heads),
            *(_push(each, jobs) for each in pushes),
        ]

    async def _work(self, found: HandedInWork, points: Decimal | None) -> Work:
        counts = graded_attempt(found.job) if found.job else None
        marks = await self._marks(found.job.id, counts) if found.job and counts else Marks()
        return work_of(found.id, found.at, found.outcome, marks, points)

    async def _marks(self, job_id: str, attempt: Attempt) -> Marks:
        """Return the marks of an attempt; an earlier version stored its report only."""
        if attempt.marks is not None:
            return attempt.marks
        return await stored_marks(self.reports, job_id, attempt.execution_id)


def waiting(found: Iterable[HandedInWork]) -> list[Work]:
    """Return uploads and pushes as works without results, each of which uses an attempt."""
    return [Work(each.id, each.at) for each in found if each.is_taken]


def _upload(head: SubmissionHead, delivery: Delivery | None, jobs: Mapping[str, Job | None]) -> HandedInWork:
    job = jobs.get(delivery.run_id) if delivery and delivery.run_id else None
    return HandedInWork(head.id, head.student, head.at, head.id, is_upload=True, delivery=delivery, job=job)


def _push(delivery: Delivery, jobs: Mapping[str, Job | None]) -> HandedInWork:
    job = jobs.get(delivery.run_id) if delivery.run_id else None
    return HandedInWork(
        id=job.id if job else delivery.id,
        student=delivery.student or "",
        at=delivery.received_at,
        version=delivery.push.version if delivery.push else "",
        is_upload=False,
        delivery=delivery,
        job=job,
    )

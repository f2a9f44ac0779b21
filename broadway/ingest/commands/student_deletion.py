"""Deletion of one student's data: orders, dry runs and receipts, and the background steps that carry orders out.

Each step begins with a count, and is safe to repeat. A deletion ends once nothing is counted any more.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Protocol

import structlog

from broadway.domain.audit import AuditRecord, record_of_service
from broadway.domain.deletion import (
    ERASED,
    Deletion,
    OpenWork,
    UnknownStudentError,
    most,
    pseudonym_of,
)
from broadway.domain.job import Job
from broadway.ingest.commands.audit import AuditLog
from broadway.ingest.commands.retention_pass import UNUSED_FOR, ResultsFiles
from broadway.lifecycle.orders import OrderError, Orders
from broadway.lifecycle.stores import Leases
from broadway.ports import Retry, StoreError
from broadway.runtime.clock import in_milliseconds, now
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

LEASE = "deletion"
SECRET = "deletion"  # noqa: S105 - the name of the secret
TTL = timedelta(minutes=5)
INTERVAL = 2.0  # seconds between two checks for orders
SWEPT = timedelta(hours=1)  # between two sweeps of the bytes of results files


class StoredDeletions(Protocol):
    """Stored orders and receipts."""

    async def latest(self, course: str, pseudonym: str) -> Deletion | None:
        """Return the last deletion of a student, or None."""

    async def order(self, deletion: Deletion) -> bool:
        """Store a deletion that is to be made; return False if its number is taken."""

    async def open(self) -> list[Deletion]:
        """Return the deletions that have not ended, the earliest first."""

    async def count(self, deletion: Deletion, counts: Mapping[str, int]) -> None:
        """Store the numbers of what is to be removed."""

    async def end(self, deletion: Deletion, ended_at: datetime) -> None:
        """Store the receipt, without the student's name."""


class Erasure(Protocol):
    """Removal of all that is stored about a student. Each call is safe to repeat."""

    async def listed(self, course: str, student: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of a student, which may be those of groups, and the repositories, as the rosters have them.

        Raises:
            SharedNameError: A group with other members has the student's name.
        """

    async def count(self, who: Deletion) -> Mapping[str, int]:
        """Return the numbers of what is stored about a student, by kind."""

    async def withdraw(self, who: Deletion, now: datetime) -> None:
        """Remove all from which new works could come."""

    async def open_work(self, who: Deletion) -> OpenWork:
        """Return what has to end before the rest can be removed."""

    async def erase(self, who: Deletion, now: datetime) -> None:
        """Remove the rest; no work of the student is open."""

    async def complete(self, who: Deletion) -> None:
        """Complete removals that a crash has interrupted."""


class Secrets(Protocol):
    """Secrets of the deployment."""

    async def get(self, name: str) -> bytes:
        """Return a secret; create it on first use."""


class StoredJobs(Protocol):
    """Jobs by id."""

    async def get(self, job_id: str) -> Job | None:
        """Return a job, or None."""


@dataclass(frozen=True, slots=True)
class StudentDeletion:
    """The requests about deletions."""

    deletions: StoredDeletions
    erasure: Erasure
    secrets: Secrets

    async def pseudonym(self, course: str, student: str) -> str:
        """Return the text that stands for a student in receipts and records."""
        return pseudonym_of(await self.secrets.get(SECRET), course, student)

    async def latest(self, course: str, student: str) -> Deletion | None:
        """Return the last deletion of a student, or None."""
        return await self.deletions.latest(course, await self.pseudonym(course, student))

    async def count(self, course: str, student: str, *, by: str, reason: str) -> Deletion:
        """Return the deletion that an order would store, with the numbers of what it would remove.

        Raises:
            SharedNameError: A group with other members has the student's name.
        """
        names, repositories = await self.erasure.listed(course, student)
        pseudonym, at = await self.pseudonym(course, student), in_milliseconds(now())
        planned = Deletion(course, pseudonym, 0, by, reason, at, names, repositories)
        return replace(planned, reason=planned.replaced(reason), counts=await self.erasure.count(planned))

    async def order(self, course: str, student: str, *, by: str, reason: str) -> Deletion:
        """Order a deletion, which the background steps make soon; return an earlier one if nothing has come since.

        Raises:
            SharedNameError: A group with other members has the student's name.
            UnknownStudentError: Nothing is stored about the student.
        """
        earlier = await self.latest(course, student)
        if earlier and earlier.ended_at is None:
            return earlier
        planned = await self.count(course, student, by=by, reason=reason)
        if not planned.counts:
            if earlier is None:
                raise UnknownStudentError("nothing is stored about the student in this course")
            return earlier
        ordered = replace(planned, number=earlier.number + 1 if earlier else 1)
        is_new = await self.deletions.order(ordered)
        await reach(Point.DELETION_ORDERED)
        return ordered if is_new else await self.latest(course, student) or ordered


@dataclass(slots=True)
class DeletionSteps:
    """Carries out deletions, in one process at a time, which holds the lease."""

    deletions: StoredDeletions
    erasure: Erasure
    jobs: StoredJobs
    orders: Orders
    leases: Leases
    audit: AuditLog
    files: ResultsFiles
    holder: str
    _swept_at: datetime | None = None

    async def run(self) -> None:
        """Carry out what is ordered, until cancelled."""
        while True:
            try:
                await self.step()
            except (StoreError, Retry) as error:
                log.warning("deletion interrupted; it goes on later", reason=str(error))
            await asyncio.sleep(INTERVAL)

    async def step(self) -> None:
        """Bring each deletion that has not ended one step further.

        Raises:
            StoreError: The store is unavailable.
        """
        await self._sweep()
        found = await self.deletions.open()
        if not found or not await self.leases.acquire(LEASE, self.holder, TTL):
            return
        for each in found:
            with isolated("deletion", course=each.course):
                await self.advance(each)
            if not await self.leases.acquire(LEASE, self.holder, TTL):
                return
        await self.leases.release(LEASE, self.holder)

    async def advance(self, deletion: Deletion) -> None:
        """Remove what is there and has ended; end the deletion if nothing is there."""
        counted = await self.erasure.count(deletion)
        if not counted:
            await self._end(deletion)
            return
        await self.deletions.count(deletion, most(deletion.counts, counted))
        await reach(Point.DELETION_COUNTED)
        await self.erasure.withdraw(deletion, now())
        await reach(Point.DELETION_WITHDRAWN)
        if await self._end_work(await self.erasure.open_work(deletion)):
            await self.erasure.erase(deletion, now())

    async def _end_work(self, work: OpenWork) -> bool:
        """Cancel what has not ended; return True if there is nothing."""
        for run in work.runs:
            with contextlib.suppress(OrderError):
                await self.orders.cancel(run, ERASED)
        for job_id in work.jobs:
            if job := await self.jobs.get(job_id):
                with contextlib.suppress(OrderError):
                    await self.orders.cancel_job(job, ERASED)
        await reach(Point.DELETION_CANCELLED)
        return not work.runs and not work.jobs

    async def _end(self, deletion: Deletion) -> None:
        await self.erasure.complete(deletion)
        ended_at = in_milliseconds(now())
        await self.audit.add(_record(deletion, ended_at), is_urgent=True)
        await self.deletions.end(deletion, ended_at)
        log.info("a student's data deleted", course=deletion.course, **deletion.counts)

    async def _sweep(self) -> None:
        moment = now()
        if self._swept_at is None or moment - self._swept_at > SWEPT:
            self._swept_at = moment
            await self.files.sweep_files(moment - UNUSED_FOR)


def _record(deletion: Deletion, ended_at: datetime) -> AuditRecord:
    return record_of_service(
        token_hex(12),
        ended_at,
        name="deletion",
        operation="students.deleted",
        about=f"/api/v2/courses/{deletion.course}/students/{deletion.pseudonym}/deletion",
        course=deletion.course,
        after={"removed": deletion.counts, "ordered_by": deletion.by, "reason": deletion.reason},
    )

"""Reads of submissions and of their files."""

import asyncio
import zipfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Protocol

from broadway.domain.job import Job, Phase
from broadway.domain.pages import Slice, cursor, sliced
from broadway.domain.submission import UPLOADS, Submission, SubmissionHead
from broadway.domain.webhook import Delivery, delivery_key
from broadway.ingest.reads.stores import DeliveryQueries
from broadway.ingest.reads.zips import ZipSink
from broadway.lifecycle.stores import JobsOfRuns, SubmissionsById

_REGULAR = 0o100000  # the type of a regular file in a Unix mode
_UNIX = 3  # the system of a zip entry that has a Unix mode
_EARLIEST = 1980  # the first year that a zip can have


class SubmissionQueries(SubmissionsById, Protocol):
    """Queries on submissions."""

    async def latest(
        self, course: str, assignment: str, *, student: str | None, before: str | None, limit: int
    ) -> list[SubmissionHead]:
        """Return submissions for an assignment without their files, latest first; only a student's if one is given.

        Raises:
            CursorError: ``before`` is not a cursor.
        """


class ContentQueries(Protocol):
    """Queries on contents of files."""

    async def size(self, sha256: str) -> int | None:
        """Return the size of a content in bytes, or None if it is not stored."""

    def read(self, sha256: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of a content from ``start`` to before ``end``.

        Raises:
            MissingContentError: The content is not stored.
        """


@dataclass(frozen=True, slots=True)
class SubmissionReads:
    """Reads of the submissions of any course."""

    submissions: SubmissionQueries
    contents: ContentQueries
    deliveries: DeliveryQueries
    jobs: JobsOfRuns

    async def delivery(self, submission: Submission) -> Delivery | None:
        """Return the delivery that stands for a submission.

        None if the submission waits for a run for the roster, or if its delivery was one of too many and is removed.
        """
        hook = f"{UPLOADS}{submission.assignment}"
        return await self.deliveries.get(delivery_key(submission.course, hook, submission.id))

    async def job(self, delivery: Delivery) -> Job | None:
        """Return the job that grades a delivery's submission, or None before it is planned."""
        jobs = await self.jobs.of_run(delivery.run_id) if delivery.run_id else []
        return next((job for job in jobs if job.phase is Phase.STUDENTS), None)

    async def one(self, course: str, identity: str) -> Submission | None:
        """Return a submission, or None."""
        return await self.submissions.get(course, identity)

    async def latest(
        self, course: str, assignment: str, *, names: Iterable[str] | None, after: str | None, limit: int
    ) -> Slice[SubmissionHead]:
        """Return a page of the submissions for an assignment, latest first; only those below some names if given.

        Raises:
            CursorError: ``after`` is not a cursor.
        """
        students = [None] if names is None else sorted(names)
        parts = [
            await self.submissions.latest(course, assignment, student=student, before=after, limit=limit + 1)
            for student in students
        ]
        found = sorted((each for part in parts for each in part), key=lambda each: (each.at, each.id), reverse=True)[
            : limit + 1
        ]
        return sliced(found, limit, lambda submission: cursor(submission.at, submission.id))

    async def is_stored(self, sha256: str) -> bool:
        """Return whether the content of a file is stored."""
        return await self.contents.size(sha256) is not None

    def content(self, sha256: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of a file; errors as for ``ContentQueries.read``."""
        return self.contents.read(sha256, start=start, end=end)

    async def zipped(self, submission: Submission) -> AsyncIterator[bytes]:
        """Yield the bytes of a zip of all files, a part of a file at a time.

        Raises:
            MissingContentError: A content is not stored.
        """
        sink = ZipSink()
        when = submission.at.timetuple()[:6]
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in submission.files:
                info = zipfile.ZipInfo(file.path, when if when[0] >= _EARLIEST else (_EARLIEST, 1, 1, 0, 0, 0))
                info.create_system, info.external_attr = _UNIX, (_REGULAR | file.mode) << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w") as entry:
                    async for piece in self.content(file.sha256):
                        await asyncio.to_thread(entry.write, piece)  # others are served while it is compressed
                        yield sink.taken()
        yield sink.taken()

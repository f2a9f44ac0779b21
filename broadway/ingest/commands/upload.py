"""Handing in files: check them, store their contents, then the manifest that makes them a submission."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, Protocol

from broadway.domain.assignment_settings import FileRules
from broadway.domain.files import Content, FileLimits, FileTree, SubmittedFile, clean_path, is_litter, without_top
from broadway.domain.hand_in import Ruling
from broadway.domain.submission import Submission, digest_of_files, submission_id
from broadway.domain.webhook import Delivery
from broadway.ingest.commands.grade_submissions import GRACE, GradingStarts
from broadway.ingest.commands.limits import Limits, QuotaError
from broadway.ingest.commands.stores import HandInRules
from broadway.ingest.unpacking.unpack import UnpackedFile
from broadway.lifecycle.stores import CoursesById, CurrentSettings, SubmissionsById
from broadway.ports import UnstorableError
from broadway.runtime import metrics
from broadway.runtime.clock import now
from broadway.runtime.crashpoints import Point, reach

ARCHIVES = (".zip", ".tar.gz", ".tgz")
RECOUNT_AFTER = 60.0  # seconds between corrections of a course's bytes, since each reads all of its submissions
STORED_AT_ONCE = 2  # submissions whose contents are written at the same time, since each needs memory


class NotTakenError(Exception):
    """The policy of the assignment does not take a submission of this moment; the text is for the student."""

    def __init__(self, ruling: Ruling) -> None:
        super().__init__(ruling.text)
        self.next_at = ruling.next_at


class UploadKeyReusedError(ValueError):
    """An earlier submission with the same idempotency key has other files."""


@dataclass(frozen=True, slots=True)
class GivenFile:
    """A file as it was sent: its name, and its content as a part of an open file on this host."""

    name: str
    sha256: str
    size: int
    file: BinaryIO
    offset: int = 0

    def read(self, start: int, length: int) -> bytes:
        """Return some bytes of the content."""
        return os.pread(self.file.fileno(), length, self.offset + start)


@dataclass(frozen=True, slots=True)
class Upload:
    """The files that a student or a group hands in, and the name of the token that sends them."""

    course: str
    assignment: str
    student: str
    by: str
    files: Sequence[GivenFile]
    key: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class HandedIn:
    """A stored submission, whether this call stored it, and its delivery; None if it waits for a run for the roster."""

    submission: Submission
    is_new: bool
    delivery: Delivery | None


class ContentStore(Protocol):
    """Stores contents of files."""

    async def put(self, contents: Sequence[Content]) -> None:
        """Store contents; one that is stored already is kept for at least another day."""


class SubmissionRegistry(SubmissionsById, Protocol):
    """Stores submissions."""

    async def add(self, submission: Submission) -> bool:
        """Store a submission; return False if its id is taken.

        Raises:
            UnstorableError: It is too large for the store.
        """


class CountedBytes(Protocol):
    """Counts the bytes of the submissions of each course."""

    async def take(self, course: str, size: int, *, most: int) -> bool:
        """Count bytes of a course; return False if that would be more than it may have."""

    async def give_back(self, course: str, size: int) -> None:
        """Take back bytes that were counted."""

    async def recount(self, course: str) -> None:
        """Correct the number of a course, which is too high after a crash."""


@dataclass(frozen=True, slots=True)
class Room:
    """The room for the files of courses, within the operator's limits."""

    courses: CoursesById
    limits: Limits
    counted: CountedBytes
    _recounts: dict[str, float] = field(default_factory=dict)  # by course, the time of the latest one

    async def take(self, course: str, size: int) -> None:
        """Count the bytes of a submission that is about to be stored.

        Raises:
            QuotaError: The course has no room for it.
        """
        found = await self.courses.get(course)
        most = (self.limits.of_course(found) if found else self.limits).stored_bytes
        if await self.counted.take(course, size, most=most):
            return
        await self._recount(course)
        if not await self.counted.take(course, size, most=most):
            raise QuotaError(
                f"the submissions of {course} may have {most} bytes together, and there is no room for these {size}; "
                "tell the course staff"
            )

    async def _recount(self, course: str) -> None:
        at = time.monotonic()
        if at - self._recounts.get(course, -RECOUNT_AFTER) >= RECOUNT_AFTER:
            self._recounts[course] = at
            await self.counted.recount(course)


class ArchiveUnpacker(Protocol):
    """Unpacks archives."""

    def unpacked(self, archive: BinaryIO, limits: FileLimits) -> AbstractAsyncContextManager[Sequence[UnpackedFile]]:
        """Unpack an archive for the time of the context.

        Raises:
            FileRefusedError: The archive is broken, or has an entry that no submission may have.
            OSError: This host cannot unpack it.
        """


@dataclass(frozen=True, slots=True)
class _Placed:
    """A file of a submission with the place of its content."""

    file: SubmittedFile
    place: "Path | GivenFile"

    @property
    def sha256(self) -> str:
        return self.file.sha256

    @property
    def size(self) -> int:
        return self.file.size

    def read(self, start: int, length: int) -> bytes:
        if isinstance(self.place, GivenFile):
            return self.place.read(start, length)
        with self.place.open("rb") as file:
            file.seek(start)
            return file.read(length)


@dataclass(frozen=True, slots=True)
class Uploads:
    """Takes submissions of files."""

    settings: CurrentSettings
    contents: ContentStore
    submissions: SubmissionRegistry
    unpacker: ArchiveUnpacker
    room: Room
    grading: GradingStarts
    rules: HandInRules
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STORED_AT_ONCE))

    async def hand_in(self, upload: Upload) -> HandedIn:
        """Store the files of a submission, then the submission, and begin its grading.

        A stored submission is graded: by this call, by its repetition, or by the sweep of ``GradingStarts``.

        Raises:
            NotTakenError: The assignment does not take a submission of this student now; nothing is stored.
            FileRefusedError: The assignment does not take these files; nothing is stored.
            UploadKeyReusedError: The idempotency key belongs to other files.
            QuotaError: The course has no room for more files.
            UnstorableError: The submission is too large for the store.
        """
        at, key = now(), upload.key if upload.key is not None else token_hex(12)
        identity = submission_id(upload.course, upload.assignment, upload.student, key)
        await self._demand_taken(upload, at, identity)
        settings = (await self.settings.current(upload.course, upload.assignment)).settings
        rules = settings.files
        async with self._files(upload.files, rules) as (placed, archive):
            files = [each.file for each in placed]
            rules.check([file.path for file in files])
            submission = Submission(
                id=identity,
                course=upload.course,
                assignment=upload.assignment,
                student=upload.student,
                at=at,
                files=tuple(files),
                digest=digest_of_files(files),
                by=upload.by,
                archive=archive,
                due_at=at + GRACE,
                traceparent=upload.traceparent,
            )
            is_new = await self._store(submission, placed, may_be_known=upload.key is not None)
        await reach(Point.UPLOAD_STORED)
        if not is_new:
            submission = await self._known(submission)
        result = metrics.HandedIn.ACCEPTED if is_new else metrics.HandedIn.REPEATED
        metrics.SUBMISSIONS.labels(submission.course, result).inc()
        return HandedIn(submission, is_new, await self.grading.begin(submission, settings))

    async def _demand_taken(self, upload: Upload, at: datetime, identity: str) -> None:
        """Return if the policy takes a submission, or it is stored already.

        Raises:
            NotTakenError: It is refused.
        """
        if upload.key is not None and await self.submissions.get(upload.course, identity):
            return
        ruling = await self.rules.ruling(upload.course, upload.assignment, upload.student, at, identity)
        if not ruling.is_taken:
            raise NotTakenError(ruling)

    async def _store(self, submission: Submission, placed: Sequence[_Placed], *, may_be_known: bool) -> bool:
        """Store a submission with its contents if its course has room; return False if its id is taken."""
        course, size = submission.course, submission.size
        if may_be_known and await self.submissions.get(course, submission.id):
            return False
        await self.room.take(course, size)
        await reach(Point.UPLOAD_COUNTED)
        async with self._turns:
            await self.contents.put(placed)
        await reach(Point.UPLOAD_CONTENTS_STORED)
        try:
            is_new = await self.submissions.add(submission)
        except UnstorableError:
            await self.room.counted.give_back(course, size)
            raise
        if is_new:
            metrics.SUBMISSION_BYTES.labels(course).inc(size)
        else:
            await self.room.counted.give_back(course, size)
        return is_new

    async def _known(self, submission: Submission) -> Submission:
        """Return the stored submission with the id of a repeated one.

        Raises:
            UploadKeyReusedError: It has other files.
        """
        known = await self.submissions.get(submission.course, submission.id)
        if known is None or known.digest != submission.digest:
            raise UploadKeyReusedError("Idempotency-Key: another submission had the same one, with other files")
        return known

    @asynccontextmanager
    async def _files(self, given: Sequence[GivenFile], rules: FileRules) -> AsyncIterator[tuple[list[_Placed], str]]:
        """Yield the files of a submission, unpacked if it is one archive, and the archive's name."""
        if not is_archive(given, rules):
            yield _as_given(given, rules), ""
            return
        (archive,) = given
        name = clean_path(archive.name)
        async with self.unpacker.unpacked(archive.file, rules.limits) as unpacked:
            yield _without_top(unpacked, rules), name


def is_archive(given: Sequence[GivenFile], rules: FileRules) -> bool:
    """Return whether a submission is one archive to be unpacked, not a file that the assignment expects as it is."""
    if len(given) != 1 or not given[0].name.lower().endswith(ARCHIVES):
        return False
    return not rules.names(given[0].name)


def _as_given(given: Sequence[GivenFile], rules: FileRules) -> list[_Placed]:
    tree, wanted = FileTree(rules.limits), [each for each in given if not is_litter(each.name)]
    placed = [_Placed(SubmittedFile(tree.add(each.name), each.sha256, each.size), each) for each in wanted]
    size = sum(each.size for each in wanted)
    rules.limits.demand_room(f"the files have {size} bytes", size)
    return placed


def _without_top(unpacked: Sequence[UnpackedFile], rules: FileRules) -> list[_Placed]:
    paths = [each.file.path for each in unpacked]
    if rules.without_top_directory:
        paths = without_top(paths)
    tree = FileTree(rules.limits)
    paths = [tree.add(path) for path in paths]  # again: a name that was harmless below a directory may be a drive's
    return [
        _Placed(SubmittedFile(path, each.file.sha256, each.file.size, each.file.mode), each.content)
        for path, each in zip(paths, unpacked, strict=True)
    ]

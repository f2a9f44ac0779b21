"""Handing in files: check them, store their contents, then the manifest that makes them a submission."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, Protocol

from broadway.domain.assignment_settings import FileRules
from broadway.domain.files import Content, FileLimits, FileTree, SubmittedFile, is_litter, without_top
from broadway.domain.submission import Submission, digest_of_files, submission_id
from broadway.domain.webhook import Delivery
from broadway.ingest.commands.grade_submissions import GRACE, GradingStarts
from broadway.ingest.unpacking.unpack import UnpackedFile
from broadway.lifecycle.stores import CurrentSettings, SubmissionsById
from broadway.runtime.clock import now
from broadway.runtime.crashpoints import Point, reach

ARCHIVES = (".zip", ".tar.gz", ".tgz")
STORED_AT_ONCE = 2  # submissions whose contents are written at the same time, since each needs memory


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
class Handed:
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


class ArchiveUnpacker(Protocol):
    """Unpacks archives."""

    def unpacked(self, archive: BinaryIO, limits: FileLimits) -> AbstractAsyncContextManager[Sequence[UnpackedFile]]:
        """Unpack an archive for the time of the context.

        Raises:
            FileRefusedError: The archive is broken, or has an entry that no submission may have.
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
    grading: GradingStarts
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STORED_AT_ONCE))

    async def hand_in(self, handed: Handed) -> HandedIn:
        """Store the files of a submission, then the submission, and begin its grading.

        A stored submission is graded: by this call, by its repetition, or by the sweep of ``GradingStarts``.

        Raises:
            FileRefusedError: The assignment does not take these files; nothing is stored.
            UploadKeyReusedError: The idempotency key belongs to other files.
            UnstorableError: The submission is too large for the store.
        """
        at = now()
        rules = (await self.settings.current(handed.course, handed.assignment)).settings.files
        async with self._files(handed.files, rules) as (placed, archive):
            files = [each.file for each in placed]
            rules.check([file.path for file in files])
            key = handed.key if handed.key is not None else token_hex(12)
            submission = Submission(
                id=submission_id(handed.course, handed.assignment, handed.student, key),
                course=handed.course,
                assignment=handed.assignment,
                student=handed.student,
                at=at,
                files=tuple(files),
                digest=digest_of_files(files),
                by=handed.by,
                archive=archive,
                due_at=at + GRACE,
                traceparent=handed.traceparent,
            )
            async with self._turns:
                await self.contents.put(placed)
        await reach(Point.UPLOAD_CONTENTS_STORED)
        is_new = await self.submissions.add(submission)
        await reach(Point.UPLOAD_STORED)
        if not is_new:
            submission = await self._known(submission)
        return HandedIn(submission, is_new, await self.grading.begin(submission))

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
            tree = FileTree(rules.limits)
            yield (
                [
                    _Placed(SubmittedFile(tree.add(each.name), each.sha256, each.size), each)
                    for each in given
                    if not is_litter(each.name)
                ],
                "",
            )
            return
        (archive,) = given
        async with self.unpacker.unpacked(archive.file, rules.limits) as unpacked:
            yield _without_top(unpacked, rules), archive.name


def is_archive(given: Sequence[GivenFile], rules: FileRules) -> bool:
    """Return whether a submission is one archive to be unpacked, not a file that the assignment expects as it is."""
    if len(given) != 1 or not given[0].name.lower().endswith(ARCHIVES):
        return False
    return not rules.names(given[0].name)


def _without_top(unpacked: Sequence[UnpackedFile], rules: FileRules) -> list[_Placed]:
    paths = [each.file.path for each in unpacked]
    if rules.without_top_directory:
        paths = without_top(paths)
    return [
        _Placed(SubmittedFile(path, each.file.sha256, each.file.size, each.file.mode), each.content)
        for path, each in zip(paths, unpacked, strict=True)
    ]

"""The files of a job's submission, laid out in the job's directory before its first stage."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import structlog

from broadway.domain.files import PROGRAM, FileRefusedError, SubmittedFile, demand_inside
from broadway.domain.job import FaultPhase
from broadway.domain.submission import DIRECTORY, submission_of
from broadway.grader.grading.artifacts import Collection
from broadway.grader.grading.grade import Preparation
from broadway.grader.ports import ContainerError
from broadway.grader.worker.file_cache import FileCache, WrongContentError
from broadway.grader.worker.runner import Sending
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

AT_ONCE = 4  # files of a job that are fetched at the same time


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this grader has received, with the evidence for it, which graders behind the gateway do without."""

    job_id: str
    generation: int = 0
    ticket: str = ""
    execution_id: str = ""


class FilesUnavailableError(Exception):
    """The API does not give or take the files; the text says why."""


class FileSource(Protocol):
    """The files of jobs' submissions, as the API has them."""

    async def files(self, claim: Claim) -> Sequence[SubmittedFile]:
        """Return the names and digests of the files of a job's submission.

        Raises:
            FilesUnavailableError: The API refuses, or does not answer in time.
        """

    def content(self, claim: Claim, sha256: str) -> AsyncGenerator[bytes]:
        """Yield the bytes of a file of a job's submission.

        Raises:
            FilesUnavailableError: The API refuses, or does not answer in time.
        """

    async def store(self, claim: Claim, collection: Collection) -> None:
        """Store the artifacts of an execution of a job.

        Raises:
            FilesUnavailableError: The API refuses, or does not answer in time.
        """


@dataclass(frozen=True, slots=True)
class SubmissionFiles:
    """Lays out the files of submissions, and sends the artifacts of jobs."""

    source: FileSource
    cache: FileCache

    def preparation(self, claim: Claim, stages: Sequence[Mapping[str, Any]]) -> Preparation | None:
        """Return the step that lays out the files of a job in its directory; None for a job without a submission."""
        return partial(self._lay_out, claim) if submission_of(stages) else None

    def sending(self, claim: Claim) -> Sending:
        """Return the step that sends the artifacts of an execution of a job."""
        return partial(self._send, claim)

    async def _send(self, claim: Claim, collection: Collection) -> str:
        """Send artifacts; return a note for the job if they are lost.

        The outcome is worth more than they are: it is reported without them, and the job need not run again.
        """
        try:
            await self.source.store(claim, collection)
        except FilesUnavailableError as error:
            log.warning("artifacts not stored", reason=str(error))
            return f"artifacts: not stored: {error}\n"
        await reach(Point.WORK_ARTIFACTS_SENT)
        return ""

    async def _lay_out(self, claim: Claim, job: Path) -> None:
        """Lay out the files below a job's directory.

        Raises:
            ContainerError: The files cannot be had, or there is no room for them.
        """
        try:
            files = await self.source.files(claim)
            root = job / DIRECTORY
            _make(root)
            turns = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for file in files:
                    group.create_task(self._place(claim, file, root, turns))
        except* (FilesUnavailableError, WrongContentError, FileRefusedError) as errors:
            raise _unavailable(str(_first(errors))) from errors
        except* OSError as errors:
            first = _first(errors)
            raise _unavailable(getattr(first, "strerror", None) or str(first)) from errors

    async def _place(self, claim: Claim, file: SubmittedFile, root: Path, turns: asyncio.Semaphore) -> None:
        async with turns:
            path = root / demand_inside(file.path)
            for parent in reversed(path.relative_to(root).parents[:-1]):
                _make(root / parent)
            mode = PROGRAM if file.mode == PROGRAM else 0o644
            await self.cache.copy(file.sha256, path, mode=mode, fetch=partial(self.source.content, claim))


def without_api(stages: Sequence[Mapping[str, Any]]) -> Preparation | None:
    """Return the step of a grader that knows no API: it refuses a job with a submission, rather than run it without."""
    return _refuse if submission_of(stages) else None


async def _refuse(_: Path) -> None:
    raise _unavailable("this grader knows no API")


def _make(directory: Path) -> None:
    """Make a directory with mode 0755, regardless of the umask."""
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _unavailable(reason: str) -> ContainerError:
    return ContainerError(f"the submission's files: {reason}", phase=FaultPhase.CREATE, retryable=True)

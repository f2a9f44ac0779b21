"""Outcomes on disk that are not confirmed yet: a redelivered job is reported from here and does not run again."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import structlog
from pydantic import ValidationError

from broadway.domain.mistakes import mistakes
from broadway.grader.worker.starts import AboutJob

log = structlog.get_logger(__name__)


class SpooledModel(AboutJob, Protocol):
    """An outcome that can be stored as JSON and read again."""

    def model_dump_json(self) -> str:
        """Return the outcome as JSON."""

    @classmethod
    def model_validate_json(cls, json_data: bytes) -> Self:
        """Read an outcome from JSON.

        Raises:
            ValueError: The text is not a valid outcome.
        """


Outcome = TypeVar("Outcome", bound=SpooledModel)


class Spool(Generic[Outcome]):
    """A directory with one file per start of a job, each holding an outcome of type ``kind``."""

    def __init__(self, directory: Path, kind: type[Outcome]) -> None:
        self._directory = directory
        self._kind = kind
        directory.mkdir(parents=True, exist_ok=True)

    def put(self, outcome: Outcome) -> None:
        """Write an outcome to disk atomically, and return once it is durable.

        Raises:
            OSError: It was not written, because the file system is full or broken.
        """
        path = self._path(outcome)
        draft = path.with_suffix(".new")
        try:
            with draft.open("wb") as file:
                file.write(outcome.model_dump_json().encode())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        self._sync_directory()

    def get(self, job: AboutJob) -> Outcome | None:
        """Return the spooled outcome of a start of a job, or None."""
        return self._read(self._path(job))

    def remove(self, outcome: Outcome) -> None:
        """Remove an outcome that has been confirmed."""
        self._path(outcome).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[Outcome]:
        for path in sorted(self._directory.glob("*.json")):
            if outcome := self._read(path):
                yield outcome

    def _path(self, job: AboutJob) -> Path:
        return self._directory / f"{job.job_id}.{job.generation}.{job.attempt}.json"

    def _read(self, path: Path) -> Outcome | None:
        try:
            return self._kind.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            reason = mistakes(error)[0] if isinstance(error, ValidationError) else str(error)
            log.warning("spooled outcome cannot be read", path=str(path), reason=reason)
            return None

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

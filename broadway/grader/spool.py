"""Outcomes that the broker has not confirmed yet, on disk, so that a redelivery reports again and runs nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import structlog
from pydantic import ValidationError

from broadway.events import JobEvent, JobFinished

log = structlog.get_logger(__name__)


class Spool:
    """One file per job and generation."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def put(self, outcome: JobFinished) -> None:
        """Return when the outcome is on disk, whole or not at all."""
        path = self._path(outcome)
        draft = path.with_suffix(".new")
        with draft.open("wb") as file:
            file.write(outcome.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        self._sync_directory()

    def get(self, job: JobEvent) -> JobFinished | None:
        """The outcome of a job in its generation, if it waits here."""
        return self._read(self._path(job))

    def remove(self, outcome: JobFinished) -> None:
        """Forget an outcome that has been confirmed."""
        self._path(outcome).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[JobFinished]:
        for path in sorted(self._directory.glob("*.json")):
            if outcome := self._read(path):
                yield outcome

    def _path(self, job: JobEvent) -> Path:
        return self._directory / f"{job.job_id}.{job.generation}.json"

    def _read(self, path: Path) -> JobFinished | None:
        try:
            return JobFinished.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            log.warning("spooled outcome cannot be read", path=str(path), reason=str(error))
            return None

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

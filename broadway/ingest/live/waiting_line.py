"""A course's waiting line, and a job's place in it. Pure."""

from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime

from broadway.domain.job import JobClass

Key = tuple[bool, datetime, int, str]


def key_of(job_id: str, job_class: JobClass, queued_at: datetime, index: int) -> Key:
    """What jobs of one course are sorted by: those that somebody waits for at a screen go first."""
    return job_class is JobClass.BULK, queued_at, index, job_id


class WaitingLine:
    """The jobs of one course that have never started, in the order in which they would, if nothing changed."""

    def __init__(self) -> None:
        self._keys: list[Key] = []
        self._by_job: dict[str, Key] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Iterable[Key]) -> None:
        """Let jobs stand in line; those that do already stay where they are."""
        new = {key[-1]: key for key in keys if key[-1] not in self._by_job}
        self._by_job |= new
        self._keys += new.values()
        self._keys.sort()

    def remove(self, job_id: str) -> None:
        """Let a job leave, if it is here."""
        key = self._by_job.pop(job_id, None)
        if key is not None:
            del self._keys[bisect_left(self._keys, key)]

    def position(self, job_id: str) -> int | None:
        """How many jobs are before this one; None if it does not stand here."""
        key = self._by_job.get(job_id)
        return None if key is None else bisect_left(self._keys, key)

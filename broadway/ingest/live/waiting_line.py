"""A course's waiting line, and a job's place in it. Pure."""

from bisect import bisect_left
from collections.abc import Iterable

from broadway.domain.waiting import WaitingKey


class WaitingLine:
    """The jobs of one course that have never started, in the order in which they would, if nothing changed."""

    def __init__(self) -> None:
        self._keys: list[WaitingKey] = []
        self._by_job: dict[str, WaitingKey] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Iterable[WaitingKey]) -> None:
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

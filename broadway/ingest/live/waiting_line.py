"""A course's waiting line, and the positions of jobs in it. Pure."""

from bisect import bisect_left
from collections.abc import Iterable

from broadway.domain.waiting import WaitingKey


class WaitingLine:
    """The jobs of one course that have never started, in the order of their starts if nothing changes."""

    def __init__(self) -> None:
        self._keys: list[WaitingKey] = []
        self._by_job: dict[str, WaitingKey] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Iterable[WaitingKey]) -> None:
        """Add jobs to the line; jobs that are already in it keep their places."""
        new = {key[-1]: key for key in keys if key[-1] not in self._by_job}
        self._by_job |= new
        self._keys += new.values()
        self._keys.sort()

    def remove(self, job_id: str) -> None:
        """Remove a job if it is in the line."""
        key = self._by_job.pop(job_id, None)
        if key is not None:
            del self._keys[bisect_left(self._keys, key)]

    def position(self, job_id: str) -> int | None:
        """Return the number of jobs before this one, or None if it is not in the line."""
        key = self._by_job.get(job_id)
        return None if key is None else bisect_left(self._keys, key)

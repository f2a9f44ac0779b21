"""The outcomes that were reported last: their jobs may come back, since an ack was lost, or the outcome itself."""

from broadway.domain.result import document_size
from broadway.grader.worker.starts import AboutJob
from broadway.messages.events import JobFinished

MOST = 100
ROOM = 32 * 1024 * 1024  # characters of them all


class RecentOutcomes:
    """A grader's last outcomes by the start of a job that they are about; the oldest go where they do not all fit.

    Args:
        most: Outcomes.
        room: Characters of all of them together. One that is longer by itself is not kept.
    """

    def __init__(self, *, most: int = MOST, room: int = ROOM) -> None:
        self._most = most
        self._room = room
        self._outcomes: dict[tuple[str, int, int], JobFinished] = {}
        self._taken = 0  # characters

    def add(self, outcome: JobFinished) -> None:
        """Remember an outcome."""
        size, start = _size(outcome), _start(outcome)
        if size > self._room:
            return
        if replaced := self._outcomes.get(start):
            self._taken -= _size(replaced)
        self._outcomes[start] = outcome
        self._taken += size
        while len(self._outcomes) > self._most or self._taken > self._room:
            self._taken -= _size(self._outcomes.pop(next(iter(self._outcomes))))

    def get(self, job: AboutJob) -> JobFinished | None:
        """What a start of a job has come to, if that is remembered."""
        return self._outcomes.get(_start(job))


def _start(about: AboutJob) -> tuple[str, int, int]:
    return about.job_id, about.generation, about.attempt


def _size(outcome: JobFinished) -> int:
    """Characters of what may be long in it."""
    return len(outcome.stdout) + len(outcome.stderr) + sum(map(document_size, outcome.results))

"""The latest reported outcomes, kept because a job is delivered again if its acknowledgment or outcome was lost."""

from broadway.domain.result import document_size
from broadway.grader.worker.starts import AboutJob
from broadway.messages.events import JobFinished

MAX_OUTCOMES = 100
MAX_CHARACTERS = 32 * 1024 * 1024  # characters of all outcomes together


class RecentOutcomes:
    """A grader's latest outcomes, each by its start of a job; the oldest are dropped when a limit is reached.

    Args:
        max_outcomes: The maximum number of outcomes.
        max_characters: The maximum size of all outcomes together, in characters. A single one above it is not kept.
    """

    def __init__(self, *, max_outcomes: int = MAX_OUTCOMES, max_characters: int = MAX_CHARACTERS) -> None:
        self._max_outcomes = max_outcomes
        self._max_characters = max_characters
        self._outcomes: dict[tuple[str, int, int], JobFinished] = {}
        self._characters = 0

    def add(self, outcome: JobFinished) -> None:
        """Keep an outcome, in place of an earlier one of the same start."""
        size, start = characters_of(outcome), _start(outcome)
        if size > self._max_characters:
            return
        if replaced := self._outcomes.get(start):
            self._characters -= characters_of(replaced)
        self._outcomes[start] = outcome
        self._characters += size
        while len(self._outcomes) > self._max_outcomes or self._characters > self._max_characters:
            self._characters -= characters_of(self._outcomes.pop(next(iter(self._outcomes))))

    def get(self, job: AboutJob) -> JobFinished | None:
        """Return the outcome of a start of a job, or None if it is not kept."""
        return self._outcomes.get(_start(job))


def _start(start: AboutJob) -> tuple[str, int, int]:
    return start.job_id, start.generation, start.attempt


def characters_of(outcome: JobFinished) -> int:
    """Return the number of characters in the fields that may be long."""
    return len(outcome.stdout) + len(outcome.stderr) + sum(map(document_size, outcome.results))

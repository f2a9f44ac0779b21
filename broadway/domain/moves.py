"""Moves of stored jobs, and their results."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from broadway.domain.job import Job

Move = Callable[[Job], Job]


@dataclass(frozen=True, slots=True)
class Moved:
    """A job before and after a move; both are the same object if the move changed nothing."""

    before: Job
    after: Job

    @property
    def changed(self) -> bool:
        return self.before is not self.after

    @property
    def ends(self) -> bool:
        """True if the move has given the job its outcome."""
        return self.after.is_terminal and not self.before.is_terminal

    @property
    def written(self) -> "Moved":
        """The same move, with the revision that the stored job has after it."""
        return Moved(self.before, replace(self.after, revision=self.before.revision + 1))

"""The progress of a run: the few fields of its jobs that its state and its phases follow from. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter

from broadway.domain.job import JobState, Outcome, Phase
from broadway.domain.run import Run


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The state, the outcome and the times of a job."""

    id: str
    phase: Phase
    index: int
    state: JobState
    queued_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: Outcome | None = None
    success: bool | None = None

    @property
    def is_terminal(self) -> bool:
        return self.state is JobState.FINISHED

    @property
    def is_undone(self) -> bool:
        """True if the job has ended without success."""
        return self.is_terminal and not self.success


@dataclass(frozen=True, slots=True)
class RunProgress:
    """A run without its roster and config, and the progress of its jobs, in the order of phases and of the roster.

    ``reasons`` are those of ``to_explain``, by job id.
    """

    run: Run
    jobs: Sequence[JobProgress]
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """True if nothing changes any more before the run's next order."""
        return self.run.state.is_terminal and self.run.order is None and all(job.is_terminal for job in self.jobs)


def first_undone(jobs: Sequence[JobProgress]) -> JobProgress | None:
    """Return the first of a phase's jobs that has ended without success, or None."""
    return next((job for job in jobs if job.is_undone), None)


def last_undone(jobs: Sequence[JobProgress]) -> JobProgress | None:
    """Return the job of a run that ended last without success, or None."""
    return max(
        (job for job in jobs if job.finished_at and not job.success), key=attrgetter("finished_at"), default=None
    )


def to_explain(jobs: Sequence[JobProgress]) -> list[str]:
    """Return the ids of the jobs whose reasons are those of a run and of its phases."""
    firsts = [first_undone([job for job in jobs if job.phase is phase]) for phase in Phase]
    return list({job.id: None for job in [*firsts, last_undone(jobs)] if job})

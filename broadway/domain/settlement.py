"""The final outcome of one generation of a job. It is stored once, and the first one that is stored counts.

This module is pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from broadway.domain.job import Attempt, FaultPhase, Job, JobState, Outcome, with_attempts
from broadway.domain.moves import Moved
from broadway.domain.result import StageResult


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome of one generation of a job, with all that it determines in the job.

    ``generation`` has ended; ``next_generation`` is the job's from then on, which a cancellation raises. ``attempts``
    are those that the outcome has added or changed. ``images`` are the digests of the images that its stages ran, if it
    grades a student's work.
    """

    job_id: str
    run_id: str
    course: str
    generation: int
    next_generation: int
    outcome: Outcome
    success: bool
    finished_at: datetime
    reason: str = ""
    fault_phase: FaultPhase | None = None
    started_at: datetime | None = None
    execution_id: str | None = None
    grader_id: str | None = None
    attempts: tuple[Attempt, ...] = ()
    results: Sequence[dict[str, Any]] | None = None
    images: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, moved: Moved) -> Self:
        """Return the outcome that a move has given to a job.

        Raises:
            ValueError: The move has not ended the job.
        """
        before, after = moved.before, moved.after
        if not moved.ends or after.outcome is None or after.finished_at is None:
            raise ValueError(f"job {after.id} has no new outcome")
        return cls(
            job_id=after.id,
            run_id=after.run_id,
            course=after.course,
            generation=before.generation,
            next_generation=after.generation,
            outcome=after.outcome,
            success=bool(after.success),
            finished_at=after.finished_at,
            reason=after.reason,
            fault_phase=after.fault_phase,
            started_at=after.started_at,
            execution_id=after.execution_id,
            grader_id=after.grader_id,
            attempts=tuple(attempt for attempt in after.attempts if attempt not in before.attempts),
            results=after.results,
            images=_images(after.results or ()) if after.handed_in else (),
        )

    @property
    def key(self) -> str:
        """The job in the generation that has ended."""
        return key_of(self.job_id, self.generation)

    def applied_to(self, job: Job) -> Job:
        """Return the job with this outcome. The job may be open, or finished without the details."""
        return replace(
            job,
            generation=self.next_generation,
            state=JobState.FINISHED,
            not_before=None,
            lease_expires_at=None,
            started_at=self.started_at or job.started_at,
            finished_at=self.finished_at,
            attempts=with_attempts(job.attempts, self.attempts),
            execution_id=self.execution_id or job.execution_id,
            grader_id=self.grader_id or job.grader_id,
            outcome=self.outcome,
            reason=self.reason,
            fault_phase=self.fault_phase,
            success=self.success,
            results=self.results,
        )


def _images(results: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    usages = [StageResult.read(entry).usage for entry in results]
    return tuple(dict.fromkeys(usage.image for usage in usages if usage and usage.image and " " not in usage.image))


def key_of(job_id: str, generation: int) -> str:
    """Return the key of the outcome of a job's generation."""
    return f"{job_id}:{generation}"


def keys_of(job_id: str, generation: int) -> list[str]:
    """Return the keys of the outcomes of a job's generations, up to one."""
    return [key_of(job_id, each) for each in range(1, generation + 1)]

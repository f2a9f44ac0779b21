"""The stores and the broker, as the dispatcher needs them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol

from broadway.domain.job import Job, JobClass, Move, Moved, Phase
from broadway.domain.run import Run, RunState
from broadway.lifecycle.steps import PhaseJobs, RunSteps
from broadway.lifecycle.stores import JobsById, JobStages
from broadway.messages.topology import Queue
from broadway.ports import Handler, Publisher, QueueDeclarer, QueueDepths, QueueState


class DispatchedJobs(JobsById, JobStages, Protocol):
    """The operations on stored jobs that dispatching needs."""

    async def move(self, moves: Mapping[str, Move], *, known: Mapping[str, Job] | None = None) -> dict[str, Moved]:
        """Apply moves to jobs by id, each in one conditional update; return the jobs that exist, before and after.

        ``known`` are jobs as the caller has read them. A move that changes nothing of a known job is not tried on the
        stored one.
        """


class BacklogCourses(Protocol):
    """The courses whose jobs wait."""

    async def courses_with_backlog(self) -> list[str]:
        """Return ids of courses with queued jobs, whether they are registered or not."""


class ReconciledJobs(PhaseJobs, JobsById, JobStages, Protocol):
    """The operations on stored jobs that reconciling needs."""

    async def are_phases_open(self, phases: Sequence[tuple[str, Phase]]) -> list[bool]:
        """Return for each phase of a run whether a stored job of it has not finished."""

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        """Return running jobs whose lease has ended, the longest ended first."""

    async def dispatched_before(self, moment: datetime, *, limit: int) -> list[Job]:
        """Return jobs that were dispatched before a moment and have not been stored as started, oldest first."""

    async def queued_of_run(self, run_id: str, phase: Phase) -> list[Job]:
        """Return the queued jobs of a phase, in the roster's order."""

    async def queued(self, course: str, job_class: JobClass, *, limit: int, unless_of: Sequence[str] = ()) -> list[Job]:
        """Return queued jobs of a course and class, oldest first, without those of the runs ``unless_of``."""

    async def count_queued(self, course: str, job_class: JobClass, *, unless_of: Sequence[str] = ()) -> int:
        """Return how many jobs of a course and class are queued, without those of the runs ``unless_of``."""


class ReconciledRuns(RunSteps, Protocol):
    """The operations on stored runs that reconciling needs."""

    async def unfinished(self, *, limit: int) -> Mapping[str, RunState]:
        """Return the states of runs that have not ended by id, oldest first, without those that the original made."""

    async def unpublished(self, now: datetime, *, limit: int) -> list[Run]:
        """Return runs whose jobs should have been published by ``now``, without rosters and configs."""


class SilentGraders(Protocol):
    """Graders that may have gone silent."""

    async def mark_silent_dead(self, moment: datetime) -> list[str]:
        """Mark live graders dead that were heard of last before a moment; return their ids."""


class ObservedBroker(Publisher, QueueDepths, Protocol):
    """A publisher whose queues can be looked at."""

    async def look(self, queue: Queue) -> QueueState | None:
        """Return the state of a queue; None if there is no such queue.

        Raises:
            PublishError: The broker is unavailable.
        """

    async def ping(self) -> None:
        """Return when the broker has taken a message.

        Raises:
            PublishError: The broker is unavailable.
        """


class ConsumedBroker(QueueDeclarer, Protocol):
    """A broker whose queues can be declared and consumed."""

    def consume(self, queue: Queue, handler: Handler, *, tag: str, prefetch: int) -> AbstractAsyncContextManager[Any]:
        """Hand messages of a queue to a handler, ``prefetch`` at a time at most, until the context ends."""


class ProbedBroker(Protocol):
    """A broker whose queues can be probed and replaced."""

    async def restore(self, queue: Queue) -> int:
        """Declare a queue if it is missing; return how many messages wait in it.

        Raises:
            PublishError: The broker is unavailable.
        """

    async def accepts(self, queue: Queue) -> bool:
        """Return whether a queue takes a message.

        Raises:
            PublishError: The broker is unavailable.
        """

    async def replace(self, queue: Queue) -> None:
        """Delete a queue with its messages and declare it again.

        Raises:
            PublishError: The broker is unavailable.
        """


class Leases(Protocol):
    """Leases that one process at a time holds."""

    async def acquire(self, name: str, holder: str, ttl: timedelta) -> bool:
        """Take or renew a lease for ``ttl`` from now; return False while it is another holder's.

        Raises:
            StoreError: The store is unavailable.
        """

    async def release(self, name: str, holder: str) -> None:
        """Give a lease back, if it is the holder's.

        Raises:
            StoreError: The store is unavailable.
        """

"""Protocols for the stores and the broker, as the dispatcher needs them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from broadway.domain.job import Job, JobClass, Phase
from broadway.domain.moves import Moved
from broadway.domain.run import Run, RunState
from broadway.lifecycle.steps import PhaseJobs, RunSteps
from broadway.lifecycle.stores import JobsById, Stages
from broadway.messages.topology import Queue
from broadway.ports import Handler, Publisher, QueueDeclarer, QueueDepths, QueueStates


class HandedOverJobs(Protocol):
    """The operation on stored jobs that handing over needs."""

    async def with_stages(self, job_ids: Sequence[str]) -> dict[str, tuple[Job, Stages]]:
        """Return jobs with their stages by id; unknown ids are left out."""


class ReadyQueues(Publisher, Protocol):
    """A publisher whose queues can be emptied."""

    async def purge(self, queue: Queue) -> int:
        """Discard the messages that wait in a queue, without those that consumers have; return their number.

        Raises:
            PublishError: The broker is unavailable.
        """


class EndingRuns(Protocol):
    """Runs that may be about to end by an order."""

    async def ending(self, run_ids: Iterable[str]) -> set[str]:
        """Return the ids of those runs that an order is ending."""


class BacklogCourses(Protocol):
    """The courses that have queued jobs."""

    async def courses_with_backlog(self) -> list[str]:
        """Return ids of courses with queued jobs, whether they are registered or not."""


class BacklogCounts(Protocol):
    """The number of queued jobs, and the oldest of them."""

    async def queued(self, course: str, job_class: JobClass, *, limit: int) -> list[Job]:
        """Return queued jobs of a course and class, oldest first."""

    async def count_backlog(self, course: str) -> int:
        """Return the number of a course's jobs that are stored as queued."""


class LetterCount(Protocol):
    """The number of dead letters."""

    async def count(self) -> int:
        """Return the number of stored dead letters."""


class ReconciledJobs(PhaseJobs, JobsById, Protocol):
    """The operations on stored jobs that reconciling needs."""

    async def are_phases_open(self, phases: Sequence[tuple[str, Phase]]) -> list[bool]:
        """Return for each phase of a run whether it has a stored job that has not finished."""

    async def complete(self, jobs: Sequence[Job]) -> dict[str, Moved]:
        """End those of the open jobs whose outcome is stored, and return them before and after."""

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        """Return running jobs whose lease has expired, the earliest expired first."""

    async def dispatched_before(self, moment: datetime, *, limit: int) -> list[Job]:
        """Return jobs that were dispatched before a moment and are not stored as started, oldest first."""

    async def queued(self, course: str, job_class: JobClass, *, limit: int, unless_of: Sequence[str] = ()) -> list[Job]:
        """Return queued jobs of a course and class, oldest first, without those of the runs ``unless_of``."""

    async def count_queued(self, course: str, job_class: JobClass, *, unless_of: Sequence[str] = ()) -> int:
        """Return the number of queued jobs of a course and class, without those of the runs ``unless_of``."""


class ReconciledRuns(RunSteps, Protocol):
    """The operations on stored runs that reconciling needs."""

    async def unfinished(self, *, limit: int) -> Mapping[str, RunState]:
        """Return the states of unfinished runs by id, oldest first, without runs that the original system started."""

    async def unpublished(self, now: datetime, *, limit: int) -> list[Run]:
        """Return runs whose jobs should have been published by ``now``, without rosters and configs."""


class SilentGraders(Protocol):
    """Graders that may have gone silent."""

    async def mark_silent_dead(self, moment: datetime) -> list[str]:
        """Mark live graders dead whose last sign of life was before a moment; return their ids."""


class PingedBroker(Protocol):
    """A broker whose availability can be checked."""

    async def ping(self) -> None:
        """Return once the broker has taken a message.

        Raises:
            PublishError: The broker is unavailable.
        """


class ObservedBroker(PingedBroker, Publisher, QueueDepths, QueueStates, Protocol):
    """A publisher whose queues can be inspected."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The messages of a backlog that reached this process: those opened, and those that wait in memory.

    They are counted anew in each ``epoch``.
    """

    epoch: int = 0
    opened: int = 0
    unopened: int = 0


class Backlogs(Protocol):
    """The consumed backlogs."""

    def reading(self, course: str, job_class: JobClass) -> Reading:
        """Return which messages of a backlog have arrived."""


class Consumption(Protocol):
    """A queue that is being consumed."""

    @property
    def opened(self) -> int:
        """The number of messages whose events were handled or are being handled."""

    @property
    def unopened(self) -> int:
        """The number of messages that wait in memory because enough events are being handled."""


class ConsumedBroker(PingedBroker, QueueDeclarer, Protocol):
    """A broker whose queues can be declared and consumed."""

    def consume(
        self, queue: Queue, handler: Handler, *, tag: str, prefetch: int, most_events: int | None = None
    ) -> AbstractAsyncContextManager[Consumption]:
        """Call a handler for the events of a queue until the context ends.

        At most ``prefetch`` messages are taken at a time. While ``most_events`` are handled, no message is opened.
        """


class ProbedBroker(Protocol):
    """A broker whose queues can be probed and replaced."""

    async def restore(self, queue: Queue) -> int:
        """Declare a queue if it is missing; return the number of messages that wait in it.

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

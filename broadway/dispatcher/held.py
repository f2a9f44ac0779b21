"""The entries of the dispatcher's board: held jobs and live graders."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broadway.dispatcher.fairshare import Offer
from broadway.domain.handed_in import regrade_of
from broadway.domain.job import Job, JobClass, JobState

MAX_HEARD = 32  # executions of a job that are remembered
STORED_PRECISION = timedelta(milliseconds=1)  # of times in the store


@dataclass(slots=True)
class Held:
    """A job whose course message this dispatcher has not acknowledged. ``latest`` is the job as last read.

    A job in flight was handed over, in its ``flown_revision`` and at ``flown_at``; in the store it stays QUEUED until
    its start is recorded. A later revision that is still QUEUED means that it has come back.
    """

    job_id: str
    run_id: str
    course: str
    job_class: JobClass
    pool: str
    generation: int
    revision: int
    latest: Job
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: bool = False
    flown_revision: int = 0
    flown_at: datetime | None = None
    is_ready: bool = False
    has_started: bool = False
    heard: dict[str, datetime] = field(default_factory=dict)  # when a grader last reported each execution as running

    @property
    def offer(self) -> Offer:
        return Offer(self.job_id, self.course, self.job_class, is_regrade=bool(regrade_of(self.latest.handed_in)))

    def goes_on_with(self, job: Job) -> bool:
        """Return whether the flight goes on, by the job's present document."""
        if not self.in_flight or self.generation != job.generation:
            return False
        return job.state is JobState.DISPATCHED or (
            job.state is JobState.QUEUED and job.revision <= self.flown_revision
        )

    def knows_pause(self, not_before: datetime) -> bool:
        """Return whether the job is in flight after a pause until ``not_before``: the fact about the pause is old."""
        known = self.latest.not_before
        return self.in_flight and known is not None and known >= not_before - STORED_PRECISION

    def hear(self, execution_id: str, now: datetime) -> None:
        """Note that a grader runs an execution; of many, the longest silent ones are forgotten."""
        self.heard.pop(execution_id, None)
        self.heard[execution_id] = now
        if len(self.heard) > MAX_HEARD:
            del self.heard[next(iter(self.heard))]


@dataclass(frozen=True, slots=True)
class Grader:
    """A grader's last heartbeat. ``sent_at`` is by the grader's clock, ``heard_at`` by ours; they may differ."""

    pool: str
    slots: int
    sent_at: datetime
    heard_at: datetime
    is_behind_gateway: bool = False
    abilities: frozenset[str] = frozenset()

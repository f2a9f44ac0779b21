"""Reads of the progress of runs, which front ends poll: shared by all who ask, remembered for runs that are over."""

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from broadway.domain.progress import JobProgress, RunProgress, to_explain
from broadway.domain.run import Run, RunState
from broadway.lifecycle.stores import JobsById, RunSummaries
from broadway.runtime.shared_calls import SharedCalls, Turn

SHARE = 0.25  # of the time, for reads of one run
LONGEST_REST = 0.5  # seconds between two reads of a run, at most
MAX_JOBS = 50_000  # of all remembered runs together
LIFETIME = 30.0  # seconds for which a run that is over is remembered


class JobsProgress(Protocol):
    """The progress of jobs."""

    async def of_run(self, run_id: str) -> list[JobProgress]:
        """Return the progress of a run's jobs, in the order of phases and of the roster."""


@dataclass(frozen=True, slots=True)
class Form:
    """A serialized answer, and the digest of it, which stands for equal bytes."""

    body: bytes
    digest: str


@dataclass(slots=True, eq=False)
class SharedProgress:
    """The progress of a run as one read has found it, for all who share the read, and the forms that they share."""

    progress: RunProgress
    _forms: dict[str, Form] = field(default_factory=dict)
    read_at: float = 0.0

    def form(self, name: str, render: Callable[[RunProgress], bytes]) -> Form:
        """Return a form of the progress; it is made for the first reader who asks for it."""
        if name not in self._forms:
            body = render(self.progress)
            self._forms[name] = Form(body, sha256(body).hexdigest()[:40])
        return self._forms[name]


@dataclass(frozen=True, slots=True)
class _Version:
    """The part of a run's document that changes before any job of a run that is over can change."""

    state: RunState
    round: int
    has_order: bool
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Run) -> "_Version":
        return cls(run.state, run.round, run.order is not None, run.finished_at)


class ProgressReads:
    """Reads of the progress of the runs of any course.

    Args:
        runs: Runs without their rosters.
        progress: The progress of their jobs.
        jobs: Whole jobs, for reasons.
        turn: A context for each read, which limits the large reads of this process.
        clock: The time in seconds.
    """

    def __init__(
        self,
        runs: RunSummaries,
        progress: JobsProgress,
        jobs: JobsById,
        *,
        turn: Turn = nullcontext,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs = runs
        self._progress = progress
        self._jobs = jobs
        self._clock = clock
        self._calls = SharedCalls(self._read, turn=turn, share=SHARE, longest_rest=LONGEST_REST)
        self._remembered: OrderedDict[str, SharedProgress] = OrderedDict()
        self._size = 0

    async def of_run(self, course: str, run_id: str) -> SharedProgress | None:
        """Return the progress of a run of a course, read after this call; None if the course has no such run."""
        if run_id in self._remembered:
            run = await self._runs.summary(run_id)
            if run is None or run.course != course:
                return None
            if known := self._known(run):
                return known
        return await self._calls.get((course, run_id))

    def _known(self, run: Run) -> SharedProgress | None:
        known = self._remembered.get(run.id)
        if known is None:
            return None
        is_fresh = self._clock() - known.read_at < LIFETIME
        if is_fresh and _Version.of(known.progress.run) == _Version.of(run):
            self._remembered.move_to_end(run.id)
            return known
        self._forget(run.id)
        return None

    async def _read(self, key: tuple[str, str]) -> SharedProgress | None:
        """Read a run before its jobs, so that no job of it is older than the run."""
        course, run_id = key
        read_at = self._clock()
        run = await self._runs.summary(run_id)
        if run is None or run.course != course:
            return None
        jobs = await self._progress.of_run(run_id)
        explained = to_explain(jobs)
        found = await self._jobs.get_many(explained) if explained else {}
        shared = SharedProgress(RunProgress(run, jobs, {job.id: job.reason for job in found.values()}), read_at=read_at)
        if shared.progress.is_settled:
            self._remember(run_id, shared)
        return shared

    def _remember(self, run_id: str, shared: SharedProgress) -> None:
        self._forget(run_id)
        self._remembered[run_id] = shared
        self._size += _size(shared)
        while self._size > MAX_JOBS:
            self._forget(next(iter(self._remembered)))

    def _forget(self, run_id: str) -> None:
        if shared := self._remembered.pop(run_id, None):
            self._size -= _size(shared)


def _size(shared: SharedProgress) -> int:
    return 1 + len(shared.progress.jobs)

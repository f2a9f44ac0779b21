"""Reads of the progress of runs, which front ends poll: shared by all who ask, remembered for runs that are over.

Of a run that goes on the jobs that have ended are remembered: they stay as they are until the run's next order.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from broadway.domain.job import Phase
from broadway.domain.progress import JobProgress, RunProgress, to_explain
from broadway.domain.run import Run, RunState
from broadway.lifecycle.stores import JobsById, RunSummaries
from broadway.runtime.shared_calls import SharedCalls, Turn

SHARE = 0.25  # of the time, for reads of one run
LONGEST_REST = 0.5  # seconds between two reads of a run, at most
MAX_JOBS = 50_000  # of all remembered runs together
LIFETIME = 30.0  # seconds for which a run that is over is remembered, and jobs that have ended


class JobsProgress(Protocol):
    """The progress of jobs."""

    async def of_run(self, run_id: str) -> list[JobProgress]:
        """Return the progress of a run's jobs, in the order of phases and of the roster."""

    async def of_run_again(
        self, run_id: str, earlier: Sequence[JobProgress], lasting: Collection[str]
    ) -> list[JobProgress]:
        """Return the progress of a run's jobs after an earlier read, in the same round of the run.

        Args:
            run_id: The run.
            earlier: All its jobs as the earlier read has found them.
            lasting: The ids of those that cannot have changed, which are not read.
        """


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
    whole_at: float = 0.0  # the time of the last read of all jobs

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


@dataclass(slots=True)
class _Memory:
    """Progress by run; the least recently used one is forgotten first."""

    _found: OrderedDict[str, SharedProgress] = field(default_factory=OrderedDict)
    _size: int = 0

    def get(self, run_id: str) -> SharedProgress | None:
        """Return the progress of a run, or None."""
        if run_id in self._found:
            self._found.move_to_end(run_id)
        return self._found.get(run_id)

    def put(self, shared: SharedProgress) -> None:
        """Remember the progress of a run."""
        self.forget(shared.progress.run.id)
        self._found[shared.progress.run.id] = shared
        self._size += _size(shared)
        while self._size > MAX_JOBS:
            self.forget(next(iter(self._found)))

    def forget(self, run_id: str) -> None:
        """Forget the progress of a run."""
        if shared := self._found.pop(run_id, None):
            self._size -= _size(shared)


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
        self._over = _Memory()
        self._going = _Memory()

    async def of_run(self, course: str, run_id: str) -> SharedProgress | None:
        """Return the progress of a run of a course, read after this call; None if the course has no such run."""
        if known := self._over.get(run_id):
            run = await self._runs.summary(run_id)
            if run is None or run.course != course:
                return None
            if self._clock() - known.read_at < LIFETIME and _Version.of(known.progress.run) == _Version.of(run):
                return known
            self._over.forget(run_id)
        return await self._calls.get((course, run_id))

    async def _read(self, key: tuple[str, str]) -> SharedProgress | None:
        """Read a run before its jobs, so that no job of it is older than the run."""
        course, run_id = key
        read_at = self._clock()
        run = await self._runs.summary(run_id)
        if run is None or run.course != course:
            return None
        jobs, whole_at = await self._jobs_of(run, read_at)
        explained = to_explain(jobs)
        found = await self._jobs.get_many(explained) if explained else {}
        reasons = {job.id: job.reason for job in found.values()}
        shared = SharedProgress(RunProgress(run, jobs, reasons), read_at=read_at, whole_at=whole_at)
        remembering, other = (self._over, self._going) if shared.progress.is_settled else (self._going, self._over)
        remembering.put(shared)
        other.forget(run_id)
        return shared

    async def _jobs_of(self, run: Run, now: float) -> tuple[list[JobProgress], float]:
        """Return the progress of a run's jobs, and the time of the last read of all of them."""
        earlier = self._going.get(run.id)
        is_known = earlier is not None and now - earlier.whole_at < LIFETIME
        if earlier and is_known and run.phase and _is_same_step(earlier.progress.run, run):
            jobs = earlier.progress.jobs
            return await self._progress.of_run_again(run.id, jobs, _lasting(jobs, run.phase)), earlier.whole_at
        return await self._progress.of_run(run.id), now


def _is_same_step(earlier: Run, run: Run) -> bool:
    """Return whether a run has waited for its jobs only: no order has come, and all jobs of its phase exist."""
    return all(
        (each.state, each.round, each.order, each.publish_at) == (run.state, run.round, None, None)
        for each in (earlier, run)
    )


def _lasting(jobs: Sequence[JobProgress], phase: Phase) -> frozenset[str]:
    """Return the ids of the jobs that stay as they are in a phase of a run until an order or the next phase.

    They are the ended ones of the phase and of those before it: the step to a phase renews jobs of this phase only, and
    an order raises the round of its run before it changes a job.
    """
    phases = list(Phase)
    begun = frozenset(phases[: phases.index(phase) + 1])
    return frozenset(job.id for job in jobs if job.is_terminal and job.phase in begun)


def _size(shared: SharedProgress) -> int:
    return 1 + len(shared.progress.jobs)

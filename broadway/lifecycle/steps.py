"""Steps of a run: the jobs and facts that a step publishes, and the stores that steps read and write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from broadway.domain.job import Job, Phase
from broadway.domain.moves import Move
from broadway.domain.run import JobOutline, Order, PlannedJob, Run, RunState, plan_jobs
from broadway.lifecycle.follow_ups import Fact
from broadway.lifecycle.stores import JobMoves, JobsOfRuns, RunSummaries
from broadway.runtime.threads import beside

# The reconciler leaves a phase alone for this long while the process that began it publishes its jobs.
PUBLISH_GRACE = timedelta(seconds=6)
AT_ONCE = 2000  # students of a run whose jobs are stored before its submission is answered


class RunSteps(RunSummaries, Protocol):
    """The operations on stored runs that steps need."""

    async def insert(self, run: Run) -> bool:
        """Store a new run; return False if its id is taken."""

    async def get(self, run_id: str) -> Run | None:
        """Return a run with its roster and config, or None."""

    async def advance(
        self,
        run: Run,
        target: RunState,
        *,
        now: datetime,
        publish_at: datetime | None,
        is_ungraded: bool = False,
    ) -> bool:
        """Move a run to another state and clear its order; return False if it has changed since it was read."""

    async def give_order(
        self,
        run: Run,
        order: Order,
        state: RunState,
        *,
        publish_at: datetime,
        config: Mapping[str, Any] | None = None,
    ) -> bool:
        """Store an order, which starts a new round; return False if the run has changed since it was read.

        With ``config`` the run has that config from now on.

        Raises:
            UnstorableError: The config is too large for the store; nothing is stored.
        """

    async def hold(self, run: Run, state: RunState, since: datetime, until: datetime) -> bool:
        """Postpone from ``since`` to ``until`` the time when other processes publish a run's jobs.

        Returns False if the stored time is not ``since``, or the run has changed.
        """

    async def hold_order(self, run: Run, since: datetime, until: datetime) -> bool:
        """Postpone from ``since`` to ``until`` the time when other processes carry out a run's order.

        Returns False if the stored time is not ``since``, or the run has changed.
        """

    async def mark_published(self, run: Run, state: RunState) -> None:
        """Record that all jobs of a phase are published, unless the run has changed since it was read."""


class PhaseJobs(JobsOfRuns, JobMoves, Protocol):
    """The operations on stored jobs that steps need."""

    async def insert(self, planned: Sequence[PlannedJob]) -> None:
        """Store new jobs; a stored job with the same id stays as it is."""

    async def outlines_of_run(self, run_id: str) -> list[JobOutline]:
        """Return the outlines of a run's jobs, in the order of phases and of the roster."""

    async def queued_of_run(self, run_id: str, phase: Phase) -> list[Job]:
        """Return the queued jobs of a phase, in the roster's order."""

    async def restage(self, planned: Sequence[PlannedJob]) -> None:
        """Replace the stages of stored jobs."""

    async def count(self, run_id: str, phase: Phase) -> int:
        """Return how many jobs of a phase are stored."""

    async def is_phase_open(self, run_id: str, phase: Phase) -> bool:
        """Return whether a phase has a stored job that has not finished."""

    async def has_phase_succeeded(self, run_id: str, phase: Phase) -> bool:
        """Return whether every stored job of a phase has succeeded."""

    async def is_ungraded(self, run_id: str) -> bool:
        """Return whether a run has students' jobs, and each of them ended as an infrastructure error."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run: the run before it, its state after it, the jobs to publish, and further facts.

    From ``publish_at`` on, another process publishes the jobs if this one has not. ``is_stored`` is False for a large
    new run whose jobs are still to be stored; then ``queued`` is empty.
    """

    run: Run
    state: RunState
    queued: tuple[Job, ...]
    facts: tuple[Fact, ...] = ()
    publish_at: datetime | None = None
    is_stored: bool = True


async def complete(run_id: str, *, runs: RunSteps, jobs: PhaseJobs) -> None:
    """Store the missing jobs of a run's present phase."""
    run = await runs.get(run_id)
    if run and run.phase and await jobs.count(run_id, run.phase) < len(run.envs(run.phase)):
        await jobs.insert(await beside(len(run.students_env), plan_jobs, run, run.phase, run.started_at))


def publish_at(now: datetime, queued: Sequence[Job]) -> datetime | None:
    """The time from which other processes may publish jobs; None if there are no jobs."""
    return now + PUBLISH_GRACE if queued else None


def rerun(generation: int, round_: int, now: datetime) -> Move:
    """The move that restarts a job, unless its generation has changed from ``generation``."""
    return lambda job: job.rerun(generation, round_, now)

"""The steps of regrades: their plan, the runs of their parts, their end, and the removal of what is discarded.

Each step is safe to repeat, and to take from several processes at once: the ids of runs follow from the stored parts,
and a regrade moves by conditional updates. A process that dies leaves a regrade that another one takes on.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from broadway.domain.regrade import OPEN_PARTS, Part, Regrade, RegradeState, most_open, run_of
from broadway.domain.run import Run
from broadway.ingest.commands.regrade_plan import RegradePlanner
from broadway.lifecycle.announce import Announcements
from broadway.lifecycle.orders import IsOverError, NoRunError, Orders, RunIsBusyError
from broadway.lifecycle.phases import begin
from broadway.lifecycle.regrades import RegradeStore
from broadway.lifecycle.steps import PhaseJobs, RunSteps
from broadway.lifecycle.stores import CoursesById
from broadway.ports import Retry, StoreError
from broadway.runtime.clock import now
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

SWEEP_INTERVAL = 1.0  # seconds
SWEEP = 100  # regrades at a time
DISCARDED = "the regrade is discarded"


class RegradeRuns(RunSteps, Protocol):
    """The operations on stored runs that regrades need."""

    async def summaries(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Return runs by id, without rosters and configs; unknown ids are left out."""


class RemovableReports(Protocol):
    """Reports and logs that can be removed."""

    async def remove(self, job_id: str, executions: Sequence[str]) -> None:
        """Remove the reports or the logs of executions of a job; those that are not stored are no error."""


class InterruptedPublications(Protocol):
    """Publications of regrades that a crash has interrupted."""

    async def resume(self, regrade: Regrade) -> None:
        """End the publication of a regrade whose process has died."""


@dataclass(frozen=True, slots=True)
class RegradeSteps:
    """Takes the next steps of regrades."""

    regrades: RegradeStore
    publications: InterruptedPublications
    planner: RegradePlanner
    courses: CoursesById
    runs: RegradeRuns
    jobs: PhaseJobs
    orders: Orders
    announcements: Announcements
    reports: RemovableReports
    logs: RemovableReports

    async def run(self) -> None:
        """Take the steps of all regrades as they become possible, until cancelled."""
        after = ""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                after = await self.sweep(after)
            except (StoreError, Retry) as error:
                log.warning("regrades not looked after", reason=str(error))

    async def sweep(self, after: str, *, limit: int = SWEEP) -> str:
        """Take the next steps of some regrades, those after an id; return the id after which to go on.

        So regrades whose jobs wait for long keep none of another course from its steps.
        """
        found = await self.regrades.active(after=after, limit=limit)
        for regrade in found:
            if regrade.is_due(now()):
                with isolated("regrades", regrade=regrade.id):
                    await self.advance(regrade)
        return found[-1].id if len(found) == limit else ""

    async def advance(self, regrade: Regrade) -> None:
        """Take a regrade's next step, if there is one."""
        match regrade.state:
            case RegradeState.DRAFT:
                await self._plan(regrade)
            case RegradeState.RUNNING:
                await self._go_on(regrade)
            case RegradeState.DISCARDED if regrade.clean_at is not None:
                await self._clean(regrade)
            case _ if regrade.publishing_at is not None:
                await self.publications.resume(regrade)

    async def _plan(self, regrade: Regrade) -> None:
        planned = await self.planner.plan(regrade)
        await self.regrades.put_parts(planned.parts)
        await reach(Point.REGRADE_PARTS_STORED)
        if await self.regrades.move(regrade.plan_as(planned.plan, planned.submissions, planned.base)):
            log.info("regrade planned", regrade=regrade.id, submissions=planned.submissions, parts=len(planned.parts))
        await reach(Point.REGRADE_PLANNED)

    async def _go_on(self, regrade: Regrade) -> None:
        """Start parts while few of them run; note the end if all have ended."""
        parts = await self.regrades.parts(regrade)
        runs = await self.runs.summaries([part.run_id for part in parts])
        waiting = [part for part in parts if part.run_id not in runs]
        are_open = [part for part in parts if part.run_id in runs and not runs[part.run_id].state.is_terminal]
        if waiting:
            await self._start(regrade, waiting, are_open)
        elif not are_open:
            await self.regrades.tidy(regrade)
            if await self.regrades.move(regrade.finish(now())):
                log.info("regrade ready", regrade=regrade.id)
            await reach(Point.REGRADE_READY)

    async def _start(self, regrade: Regrade, waiting: Sequence[Part], are_open: Sequence[Part]) -> None:
        """Start parts whose jobs leave room below the course's cap, so that other jobs need not wait for them."""
        course = await self.courses.get(regrade.course)
        if course is None:
            return
        most = most_open(course.concurrency)
        jobs, number = sum(len(part.items) for part in are_open), len(are_open)
        for part in waiting:
            if number and (number >= OPEN_PARTS or jobs + len(part.items) > most):
                return
            run = run_of(regrade, part, pool=course.pool, now=now())
            step = await begin(run, runs=self.runs, jobs=self.jobs)
            await reach(Point.REGRADE_PART_BEGUN)
            if step:
                self.announcements.step(step)
            jobs, number = jobs + len(part.items), number + 1

    async def _clean(self, regrade: Regrade) -> None:
        """Cancel the runs of a discarded regrade; once they have ended, remove their reports and logs."""
        parts = await self.regrades.parts(regrade)
        runs = await self.runs.summaries([part.run_id for part in parts])
        are_open = [run for run in runs.values() if not run.state.is_terminal]
        for run in are_open:
            with contextlib.suppress(IsOverError, NoRunError, RunIsBusyError):
                await self.orders.cancel(run.id, DISCARDED)
        if are_open:
            return
        for run_id in runs:
            await self._remove_reports(run_id)
        await reach(Point.REGRADE_CLEANED)
        await self.regrades.move(regrade.clean())

    async def _remove_reports(self, run_id: str) -> None:
        for job in await self.jobs.of_run(run_id):
            executions = [attempt.execution_id for attempt in job.attempts]
            await self.reports.remove(job.id, executions)
            await self.logs.remove(job.id, executions)

"""The steps of regrades: their plan, the runs of their parts, their end, and the removal of what is discarded.

Each step is safe to repeat, and to take from several processes at once: the ids of runs follow from the stored parts,
and a regrade moves by conditional updates. A process that dies leaves a regrade that another one takes on.
"""

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from broadway.domain.regrade import OPEN_PARTS, Regrade, most_open, run_of
from broadway.domain.regrade_terms import RegradeState
from broadway.ingest.commands.regrade_plan import RegradePlanner
from broadway.lifecycle.announce import Announcements
from broadway.lifecycle.orders import IsOverError, NoRunError, Orders, RunIsBusyError
from broadway.lifecycle.phases import begin
from broadway.lifecycle.regrades import RegradeStore
from broadway.lifecycle.steps import PhaseJobs, RunSteps
from broadway.lifecycle.stores import CoursesById, RunSummariesById
from broadway.ports import Retry, StoreError
from broadway.runtime.clock import now
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

SWEEP_INTERVAL = 1.0  # seconds
SWEEP = 100  # regrades at a time
LOOKED_AT = 10  # parts at a time: those that run, and the next ones
MOST_KEPT = 200  # regrades whose outlines are remembered
DISCARDED = "the regrade is discarded"


class RegradeRuns(RunSteps, RunSummariesById, Protocol):
    """The operations on stored runs that regrades need."""


class RemovableReports(Protocol):
    """Reports and logs that can be removed."""

    async def remove(self, job_id: str, executions: Sequence[str]) -> None:
        """Remove the reports or the logs of executions of a job; those that are not stored are no error."""


class InterruptedPublications(Protocol):
    """Publications of regrades that a crash has interrupted."""

    async def resume(self, regrade: Regrade) -> None:
        """End the publication of a regrade whose process has died."""


@dataclass(slots=True)
class _Outline:
    """A part without its submissions: its id, its run, and the number of its jobs."""

    id: str
    run_id: str
    jobs: int
    has_ended: bool = False

    def is_open(self, runs: Collection[str]) -> bool:
        """Return whether the part has begun, and not ended; ``runs`` are those that are stored."""
        return self.run_id in runs and not self.has_ended


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
    _outlines: dict[tuple[str, tuple[str, ...]], list[_Outline]] = field(default_factory=dict)

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
        """Start parts while few of them run; note the end if all have ended. Parts start in their order."""
        outlines = await self._outlines_of(regrade)
        following = [each for each in outlines if not each.has_ended][:LOOKED_AT]
        runs = await self.runs.summaries([each.run_id for each in following])
        for each in following:
            each.has_ended = each.run_id in runs and runs[each.run_id].state.is_terminal
        if waiting := [each for each in following if each.run_id not in runs]:
            await self._start(regrade, waiting, [each for each in following if each.is_open(runs)])
        elif all(each.has_ended for each in outlines):
            await self.regrades.tidy(regrade)
            if await self.regrades.move(regrade.finish(now())):
                log.info("regrade ready", regrade=regrade.id)
            await reach(Point.REGRADE_READY)

    async def _outlines_of(self, regrade: Regrade) -> list[_Outline]:
        """Return the outlines of a regrade's parts, which are read once: stored parts do not change."""
        key = (regrade.id, regrade.plans)
        if key not in self._outlines:
            parts = await self.regrades.parts(regrade)
            self._outlines[key] = [_Outline(part.id, part.run_id, len(part.items)) for part in parts]
            while len(self._outlines) > MOST_KEPT:
                del self._outlines[next(iter(self._outlines))]
        return self._outlines[key]

    async def _start(self, regrade: Regrade, waiting: Sequence[_Outline], are_open: Sequence[_Outline]) -> None:
        """Start parts whose jobs leave room below the course's cap, so that other jobs need not wait for them."""
        course = await self.courses.get(regrade.course)
        if course is None:
            return
        most = most_open(course.concurrency)
        jobs, number, chosen = sum(each.jobs for each in are_open), len(are_open), list[str]()
        for each in waiting:
            if number and (number >= OPEN_PARTS or jobs + each.jobs > most):
                break
            chosen.append(each.id)
            jobs, number = jobs + each.jobs, number + 1
        for part in await self.regrades.parts_by_id(chosen) if chosen else ():
            run = run_of(regrade, part, pool=course.pool, now=now())
            step = await begin(run, runs=self.runs, jobs=self.jobs)
            await reach(Point.REGRADE_PART_BEGUN)
            if step:
                self.announcements.step(step)

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

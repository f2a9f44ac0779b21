"""The reconciler: it finds and repairs jobs and runs that are stuck.

It compares the database with the dispatcher's held jobs and the broker's queues, and repairs differences with the same
moves and publishes that normal work uses.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from broadway.dispatcher.board import Board
from broadway.dispatcher.hand_over import HandOver
from broadway.dispatcher.lost_jobs import LostJobs
from broadway.dispatcher.patience import PATIENCE, Patience
from broadway.dispatcher.ports import ObservedBroker, ReconciledJobs, ReconciledRuns, SilentGraders
from broadway.domain.job import Job, JobClass, JobState, RetryPolicy
from broadway.domain.parts import in_parts
from broadway.domain.run import PHASE_OF, Order, Run
from broadway.lifecycle.announce import Hold, announce
from broadway.lifecycle.carrying_out import carry_out
from broadway.lifecycle.follow_ups import Fact, following
from broadway.lifecycle.outbox import publish_queued
from broadway.lifecycle.phases import bring_forward
from broadway.lifecycle.steps import Step, complete
from broadway.messages.topology import RESULTS, ready_queue
from broadway.ports import PublishError, StoreError
from broadway.runtime import metrics
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.isolation import isolated
from broadway.runtime.metrics import Repair

log = structlog.get_logger(__name__)

LIMIT = 1000  # repairs of one kind in one sweep
RUNS_AT_A_TIME = 5  # runs per query: each may have thousands of jobs, and other callers wait for the store meanwhile
REST = 4  # the pause after each query of runs, as a multiple of the query's time
THOROUGH = 5  # one sweep in this many is thorough, with expensive queries
SHARE = 20  # the pause after a thorough sweep, as a multiple of its time, so that a long backlog costs no more
BEHIND = 1000  # messages in the results queue: heartbeats and outcomes among them may be older than a lease


@dataclass(slots=True)
class Reconciler:
    """Sweeps at regular intervals. Every repair is idempotent; a second sweep finds nothing left to repair."""

    board: Board
    jobs: ReconciledJobs
    runs: ReconciledRuns
    graders: SilentGraders
    broker: ObservedBroker
    policy: RetryPolicy
    lease: timedelta
    hand_over: HandOver
    lost_jobs: LostJobs
    patience: Patience = PATIENCE
    _listening_since: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def run(self, *, interval: float) -> None:
        """Sweep every ``interval`` seconds until cancelled. Every fifth sweep is thorough, unless the last was slow."""
        loop = asyncio.get_running_loop()
        rested_at = loop.time()
        for number in itertools.count():
            try:
                await self.sweep()
                if number % THOROUGH == 0 and loop.time() >= rested_at:
                    with isolated("reconcile"):
                        spent = await self.sweep_thoroughly()
                        rested_at = loop.time() + min(SHARE * spent, self.patience.longest_rest)
            except (StoreError, PublishError) as error:
                log.warning("sweep incomplete", reason=str(error))
                self._listening_since = datetime.now(UTC)
            await asyncio.sleep(interval)

    async def sweep(self) -> None:
        """Repair the likely kinds of stuck work, with queries whose cost does not grow with the backlog."""
        now = datetime.now(UTC)
        await reach(Point.SWEEP_BEGUN)
        await self._check_reception()
        await self._refresh_held(now)
        await reach(Point.SWEEP_REFRESHED)
        repairs = (self._publish_outbox, self._end_leases, self._hand_over_again, self._find_suspected)
        for repair in (*repairs, self._retire_graders):
            with isolated("reconcile", repair=repair.__name__):
                await repair(now)
        await reach(Point.SWEEP_DONE)

    async def _find_suspected(self, _: datetime) -> None:
        await self.lost_jobs.look_again()

    async def sweep_thoroughly(self) -> float:
        """Repair every kind of stuck work: also runs that should have advanced, and jobs in no queue.

        Returns:
            The seconds that it took, without pauses.
        """
        begun = time.monotonic()
        await reach(Point.SWEEP_THOROUGH)
        rested = await self._bring_forward()
        await self.lost_jobs.find(list(itertools.product(self.board.courses, JobClass)))
        return time.monotonic() - begun - rested

    async def _bring_forward(self) -> float:
        """Advance unfinished runs that have no open job; return the seconds that it paused."""
        rested = 0.0
        unfinished = await self.runs.unfinished(limit=LIMIT)
        waiting = [(run_id, state) for run_id, state in unfinished.items() if not self.board.has_open(run_id)]
        for batch in in_parts(waiting, RUNS_AT_A_TIME):
            begun = time.monotonic()
            phases = [(run_id, PHASE_OF[state]) for run_id, state in batch if state in PHASE_OF]
            are_open = await self.jobs.are_phases_open(phases)
            busy = {run_id for (run_id, _), is_open in zip(phases, are_open, strict=True) if is_open}
            for run_id, _ in batch:
                if run_id not in busy:
                    with isolated("reconcile", run=run_id):
                        await bring_forward(run_id, runs=self.runs, jobs=self.jobs, publisher=self.broker)
            worked = time.monotonic()
            await asyncio.sleep(REST * (worked - begun))
            rested += time.monotonic() - worked
        return rested

    async def _check_reception(self) -> None:
        """Restart the listening time if graders' messages may not reach us or the store: graders then seem silent."""
        try:
            await self.broker.ping()
            results = await self.broker.queue_state(RESULTS)
        except PublishError as error:
            log.warning("graders cannot be heard", reason=str(error))
            results = None
        if results is None or not results.consumers or results.waiting > BEHIND:
            self._listening_since = datetime.now(UTC)

    def _has_listened(self, now: datetime) -> bool:
        """Return whether graders' messages have reached us and the store for at least a lease's time."""
        return now >= self._listening_since + self.lease

    def _is_heard(self, job: Job, now: datetime) -> bool:
        """Return whether a grader has reported within a lease's time that it runs a job, even if that is not stored."""
        heard = self.board.last_heard(job)
        return heard is not None and heard > now - self.lease

    async def _refresh_held(self, now: datetime) -> None:
        """Update every held job from the store, since events may have been lost."""
        for some in in_parts(list(self.board.held), LIMIT):
            for job in (await self.jobs.get_many(some)).values():
                self.board.observe(job, now=now)

    async def _publish_outbox(self, now: datetime) -> None:
        for run in await self.runs.unpublished(now, limit=LIMIT):
            with isolated("reconcile", **run.context):
                await self._publish_run(run)

    async def _publish_run(self, run: Run) -> None:
        if run.order:
            _count_repair(Repair.ORDER)
            log.warning("repair: carrying an order out", order=run.order.kind.value, **run.context)
            await self._carry_out(run, run.order)
            return
        if run.phase is None:  # only a phase has jobs to publish
            return
        await complete(run.id, runs=self.runs, jobs=self.jobs)
        queued = await self.jobs.queued_of_run(run.id, run.phase)
        _count_repair(Repair.OUTBOX)
        log.warning("repair: publishing from the outbox", jobs=len(queued), **run.context)
        lost = [job for job in queued if job.id not in self.board.held]
        hold = Hold(Step(run, run.state, tuple(lost), publish_at=run.publish_at), self.runs)
        if await publish_queued(lost, publisher=self.broker, may_continue=hold.renew):
            await self.runs.mark_published(run, run.state)

    async def _carry_out(self, run: Run, order: Order) -> None:
        """Carry out an order whose process has died, at most ``LIMIT`` jobs of it in one sweep."""
        step = await carry_out(run, order, runs=self.runs, jobs=self.jobs, publish=self._publish, limit=LIMIT)
        if step is None:
            return
        await announce(step, runs=self.runs, publisher=self.broker)
        if not (step.queued or step.state.is_terminal):
            await bring_forward(run.id, runs=self.runs, jobs=self.jobs, publisher=self.broker)

    async def _publish(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            await self.broker.publish(*fact)

    async def _end_leases(self, now: datetime) -> None:
        if not self._has_listened(now):
            return  # heartbeats and outcomes of an interruption may still be on their way to the store
        expired = [job for job in await self.jobs.expired(now, limit=LIMIT) if not self._is_heard(job, now)]
        expired = await self._without_outcome(expired)
        if not expired:
            return
        _count_repair(Repair.LEASE, len(expired))
        log.warning("repair: attempts lost with their graders", jobs=[job.id for job in expired])
        for job in expired:
            log.info("attempt lost", grader=job.grader_id, execution=job.execution_id, **job.context)

        def lose(job: Job) -> Job:
            is_expired = job.lease_expires_at is not None and job.lease_expires_at < now
            return job.lose(now, policy=self.policy) if is_expired else job

        moved = await self.jobs.move({job.id: lose for job in expired})
        for ended in moved.values():
            with isolated("reconcile", **ended.after.context):
                await self._publish(following(ended))

    async def _without_outcome(self, jobs: Sequence[Job]) -> list[Job]:
        """End those jobs whose outcome was stored by a process that died before it updated them; return the others."""
        completed = await self.jobs.complete(jobs) if jobs else {}
        if completed:
            _count_repair(Repair.OUTCOME, len(completed))
            log.warning("repair: outcomes were stored without their jobs", jobs=sorted(completed))
        for ended in completed.values():
            with isolated("reconcile", **ended.after.context):
                await self._publish(following(ended))
        return [job for job in jobs if job.id not in completed]

    async def _hand_over_again(self, now: datetime) -> None:
        moment = now - self.patience.dispatch
        dispatched = await self.jobs.dispatched_before(moment, limit=LIMIT) + self.board.handed_over_before(moment)
        overdue = [job for job in dispatched if not self.board.has_started(job.id)]
        started = [job for job in dispatched if self.board.has_started(job.id)]
        for pool in {job.pool for job in overdue}:
            of_pool = [job for job in overdue if job.pool == pool]
            if await self.broker.depth(ready_queue(pool)) >= len(of_pool):
                continue  # the jobs are in their queue; no grader is free to take them
            log.warning("repair: dispatched jobs are in no queue", pool=pool, jobs=[job.id for job in of_pool])
            await self._redispatch(of_pool, now)
        if self._has_listened(now):
            await self._hand_over_vanished([job for job in started if not self._is_heard(job, now)], now)

    async def _hand_over_vanished(self, vanished: Sequence[Job], now: datetime) -> None:
        """Dispatch jobs again that graders started and no longer run, and whose events never reached the store."""
        if not vanished:
            return
        log.warning("repair: jobs have vanished with their outcomes", jobs=[job.id for job in vanished])
        for job in vanished:
            self.board.release(job.id, job.generation)
        await self._redispatch(vanished, now)

    async def _redispatch(self, stuck: Sequence[Job], now: datetime) -> None:
        """Hand jobs over again. Those that are stored as dispatched get a new time, so that they are due later."""
        jobs = await self._without_outcome(stuck)
        if not jobs:
            return
        _count_repair(Repair.HANDOVER, len(jobs))
        stored = [job.id for job in jobs if job.state is JobState.DISPATCHED]
        await self.jobs.move({job_id: lambda job: job.redispatch(now) for job_id in stored})
        for job in jobs:
            log.info("handed over again", **job.context)
        for pool in {job.pool for job in jobs}:
            await self.hand_over.publish([job.id for job in jobs if job.pool == pool], pool)

    async def _retire_graders(self, now: datetime) -> None:
        silent = now - self.lease
        self.board.forget_graders(silent_since=silent)
        dead = await self.graders.mark_silent_dead(silent)
        if dead:
            _count_repair(Repair.GRADER, len(dead))
            log.warning("graders have gone silent", graders=dead)


def _count_repair(kind: Repair, number: int = 1) -> None:
    metrics.REPAIRS.labels(kind).inc(number)

"""Announce steps: publish the jobs of the new phase first, then the facts. Jobs of a large new run are stored before.

The run itself is the outbox: until all its jobs are known to be published, ``publish_at`` holds the time at which
another process takes over.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from broadway.domain.parts import in_parts
from broadway.domain.run import plan_jobs
from broadway.lifecycle.follow_ups import Fact
from broadway.lifecycle.outbox import WINDOW, publish_queued
from broadway.lifecycle.steps import PUBLISH_GRACE, PhaseJobs, RunSteps, Step
from broadway.messages.events import RunAdvanced
from broadway.messages.topology import EVENTS, event_key
from broadway.ports import Publisher, PublishError, StoreError
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.threads import beside

log = structlog.get_logger(__name__)

STORED = 1000  # jobs stored between two renewals of the right to do it

Later = Callable[[Coroutine[Any, Any, None]], None]


class Hold:
    """The right to publish the jobs of a step. It expires unless its holder renews it."""

    def __init__(self, step: Step, runs: RunSteps) -> None:
        self._step = step
        self._runs = runs
        self._until = step.publish_at

    async def renew(self) -> bool:
        """Extend the right if it is about to expire; return False if another process has taken it over."""
        now = datetime.now(UTC)
        if self._until is None or self._until - now > PUBLISH_GRACE / 2:
            return True
        until = now + PUBLISH_GRACE
        if not await self._runs.hold(self._step.run, self._step.state, self._until, until):
            return False
        self._until = until
        return True


class Announcer:
    """Announces steps. Large steps run one at a time, so that a small step never waits behind several of them."""

    def __init__(self, *, runs: RunSteps, jobs: PhaseJobs, publisher: Publisher) -> None:
        self._runs = runs
        self._jobs = jobs
        self._publisher = publisher
        self._turn = asyncio.Lock()

    async def announce(self, step: Step) -> None:
        """Store a step's jobs if they are not stored, and publish them, then its facts; see the function ``announce``.

        Raises:
            PublishError: As ``announce``.
            StoreError: The store is unavailable. The reconciler continues.
        """
        hold = Hold(step, self._runs)
        if step.is_stored and len(step.queued) <= WINDOW:
            await announce(step, runs=self._runs, publisher=self._publisher, hold=hold)
            return
        turn = asyncio.create_task(self._turn.acquire())
        try:
            while not turn.done():
                await asyncio.wait([turn], timeout=PUBLISH_GRACE.total_seconds() / 3)
                await hold.renew()
            if stored := await self._stored(step, hold):
                await announce(stored, runs=self._runs, publisher=self._publisher, hold=hold)
        finally:
            if turn.done() and not turn.cancelled():
                self._turn.release()
            turn.cancel()

    async def _stored(self, step: Step, hold: Hold) -> Step | None:
        """Return a step whose jobs are stored; None if an order or another process has taken the run over meanwhile."""
        run = step.run
        if step.is_stored or run.phase is None:
            return step
        planned = await beside(len(run.students_env), plan_jobs, run, run.phase, run.started_at)
        for some in in_parts(planned, STORED):
            if not await hold.renew():
                return None
            await self._jobs.insert(some)
        await reach(Point.SUBMIT_STEPPED)
        return replace(step, queued=tuple(plan.job for plan in planned), is_stored=True)


async def announce(step: Step, *, runs: RunSteps, publisher: Publisher, hold: Hold | None = None) -> None:
    """Publish a step's jobs, then its facts. Jobs that the broker refuses stay in the outbox for the reconciler.

    Raises:
        PublishError: The broker did not take a fact; its consumers find the change in the store later.
    """
    run = step.run
    await reach(Point.ANNOUNCE_BEGUN)
    may_continue = (hold or Hold(step, runs)).renew
    if step.queued and await publish_queued(step.queued, publisher=publisher, may_continue=may_continue):
        await reach(Point.ANNOUNCE_JOBS_PUBLISHED)
        await runs.mark_published(run, step.state)
        await reach(Point.ANNOUNCE_MARKED)
    for fact in step.facts:
        await publisher.publish(*fact)
    advanced = RunAdvanced(
        course=run.course,
        assignment=run.assignment,
        run_id=run.id,
        state=step.state,
        round=run.round,
        traceparent=run.traceparent,
    )
    await publisher.publish(EVENTS, event_key("run", step.state.slug, run.course), advanced)
    await reach(Point.ANNOUNCE_TOLD)


@dataclass(frozen=True, slots=True)
class Announcements:
    """Publishes steps and facts in the background. The reconciler makes up for publishes that fail.

    ``later`` runs a coroutine in the background.
    """

    announcer: Announcer
    publisher: Publisher
    later: Later

    def step(self, step: Step, *, then: Callable[[], None] = lambda: None) -> None:
        """Schedule the publishing of a step's jobs and facts, and a call of ``then`` after it."""
        self.later(self._step(step, then))

    def facts(self, facts: Sequence[Fact]) -> None:
        """Schedule the publishing of facts about a stored change."""
        self.later(self.publish(facts))

    async def _step(self, step: Step, then: Callable[[], None]) -> None:
        try:
            await self.announcer.announce(step)
        except (PublishError, StoreError) as error:
            log.warning("run not announced", reason=str(error), **step.run.context)
        finally:
            then()

    async def publish(self, facts: Sequence[Fact]) -> None:
        """Publish facts about a stored change, as far as the broker takes them."""
        for exchange, key, event in facts:
            try:
                await self.publisher.publish(exchange, key, event)
            except PublishError as error:
                about = {"event_type": event.type, "about": event.subject, **event.context}
                log.warning("fact not published", reason=str(error), **about)

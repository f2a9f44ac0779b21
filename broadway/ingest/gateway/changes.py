"""Changes to jobs of graders behind the gateway: moves, the events that follow, and the next steps of their runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from broadway.domain.grader import Grader
from broadway.domain.job import RetryPolicy
from broadway.domain.moves import Move
from broadway.ingest.gateway.ports import GatewayGraders, GatewayJobs
from broadway.lifecycle.announce import Later, announce
from broadway.lifecycle.follow_ups import following
from broadway.lifecycle.phases import advance
from broadway.lifecycle.steps import RunSteps, Step
from broadway.messages.events import Event
from broadway.messages.topology import EVENTS
from broadway.ports import Publisher, PublishError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JobChanges:
    """Moves jobs and publishes the events that follow. ``later`` runs work that an answer does not wait for."""

    graders: GatewayGraders
    jobs: GatewayJobs
    runs: RunSteps
    publisher: Publisher
    policy: RetryPolicy
    later: Later

    async def apply(self, moves: Mapping[str, Move]) -> None:
        """Move jobs by id, publish the events that follow, and bring forward the runs of jobs that ended."""
        if not moves:
            return
        moved = await self.jobs.move(moves)
        for fact in [fact for m in moved.values() for fact in following(m)]:
            _, key, event = fact
            await self.publish(key, event)
        for run_id in {m.after.run_id for m in moved.values() if m.after.is_terminal}:
            await self.bring_forward(run_id)

    async def put_back(self, grader: Grader, executions: Sequence[tuple[str, str]]) -> None:
        """Requeue jobs that a grader held, by job and execution id; their starts do not count."""
        now = datetime.now(UTC)

        def back(execution_id: str) -> Move:
            return lambda job: job.put_back(execution_id, now)

        await self.apply({job_id: back(execution_id) for job_id, execution_id in executions})
        await self.graders.take_back(grader.id, [job_id for job_id, _ in executions])

    async def requeue_jobs_of(self, grader: Grader) -> None:
        """Requeue the jobs of a grader that has gone; the lost attempts count."""
        now = datetime.now(UTC)

        def lose(execution_id: str | None) -> Move:
            return lambda job: job.lose(now, policy=self.policy, execution_id=execution_id)

        await self.apply({job.id: lose(job.execution_id) for job in await self.jobs.held_by(grader.id)})

    async def bring_forward(self, run_id: str) -> None:
        """Let a run take its next steps in the store, and announce them later."""
        while step := await advance(run_id, runs=self.runs, jobs=self.jobs):
            log.info("run advanced", state=step.state.slug, jobs=len(step.queued), **step.run.context)
            self.later(self._announce(step))
            if step.queued:
                return

    async def _announce(self, step: Step) -> None:
        try:
            await announce(step, runs=self.runs, publisher=self.publisher)
        except PublishError as error:
            log.warning("step not announced", error=str(error), **step.run.context)

    async def publish(self, key: str, event: Event) -> None:
        """Publish an event about a stored fact; the reconciler makes up for events that the broker does not accept."""
        try:
            await self.publisher.publish(EVENTS, key, event)
        except PublishError as error:
            log.warning("fact not told", event_type=event.type, about=event.subject, reason=str(error), **event.context)

    def publish_later(self, key: str, event: Event) -> None:
        """Publish an event in the background."""
        self.later(self.publish(key, event))

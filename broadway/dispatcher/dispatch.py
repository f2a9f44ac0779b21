"""Hold course messages until their jobs have settled, and dispatch jobs to graders, fairly and as late as possible."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from broadway.dispatcher.board import Board, Held
from broadway.dispatcher.ports import DispatchedJobs, EndingRuns
from broadway.domain.job import Job, JobClass, JobState
from broadway.lifecycle.stores import Stages
from broadway.messages.events import Event, JobDispatched, JobQueued, ids_of
from broadway.messages.ticket import Tickets
from broadway.messages.topology import JOBS, ready_key
from broadway.ports import Publisher, PublishError, Reject, Retry, StoreError
from broadway.runtime.batching import Batcher
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

BATCH = 50  # jobs dispatched at a time
PAUSE_AFTER_FAILURE = 1.0  # seconds


class Intake:
    """The handler of the course queues. It returns, which acknowledges the message, once the message's job settles."""

    def __init__(self, board: Board, jobs: DispatchedJobs) -> None:
        self._board = board
        self._jobs = jobs
        self._lookups: Batcher[str, Job | None] = Batcher(self._look_up, linger=0)

    async def run(self) -> None:
        """Look jobs up in batches until cancelled."""
        await self._lookups.run()

    async def hold(self, event: Event) -> None:
        """Hold a job's course message until the job's outcome is final."""
        if not isinstance(event, JobQueued):
            raise Reject(f"a course queue holds no {event.type}")
        await reach(Point.HOLD_DELIVERED)
        job = await self._lookups.submit(event.job_id)
        await reach(Point.HOLD_LOOKED_UP)
        if job is None:
            raise Reject("no such job")
        if job.is_terminal or job.generation != event.generation:
            return
        held = self._board.keep(job)
        try:
            await held.settled.wait()
            await reach(Point.HOLD_SETTLED)
        finally:
            self._board.drop(held)

    async def _look_up(self, job_ids: Sequence[str]) -> list[Job | None]:
        try:
            jobs = await self._jobs.get_many(job_ids)
        except StoreError as error:
            raise Retry(str(error)) from error
        return [jobs.get(job_id) for job_id in job_ids]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Hands jobs of the board to graders.

    Args:
        board: The held jobs.
        jobs: The stored jobs.
        runs: The stored runs.
        publisher: The broker.
        tickets: Makes the tickets of the jobs.
    """

    board: Board
    jobs: DispatchedJobs
    runs: EndingRuns
    publisher: Publisher
    tickets: Tickets

    async def run(self) -> None:
        """Keep a few jobs ready in every pool, after each change of the board, until cancelled."""
        while True:
            await self.board.changed.wait()
            self.board.changed.clear()
            for pool in self.board.pools:
                with isolated("dispatch", pool=pool):
                    await self._top_up(pool)

    async def _top_up(self, pool: str) -> None:
        while picked := _pick(pool, self.board):
            try:
                await self._dispatch(await self._without_ending(picked))
            except StoreError as error:
                log.warning("dispatching pauses", reason=str(error))
                for held in picked:
                    self.board.offer_again(held.job_id, held.generation)
                await asyncio.sleep(PAUSE_AFTER_FAILURE)

    async def _without_ending(self, picked: Sequence[Held]) -> Sequence[Held]:
        """Return the jobs whose runs no order is ending; withhold the others, which the order will end one by one.

        The orders for runs of one student are carried out at once, so their runs are not checked.
        """
        run_ids = {held.run_id for held in picked if held.job_class is JobClass.BULK}
        ending = await self.runs.ending(run_ids) if run_ids else set()
        for run_id in ending:
            self.board.withhold(run_id)
        return [held for held in picked if held.run_id not in ending]

    async def _dispatch(self, picked: Sequence[Held]) -> None:
        now = datetime.now(UTC)
        await reach(Point.DISPATCH_PICKED)
        known = {held.job_id: held.latest for held in picked if held.latest.state is JobState.QUEUED}
        moved, stages = await asyncio.gather(
            self.jobs.move({held.job_id: lambda job: job.dispatch(now) for held in picked}, known=known),
            self.jobs.stages([held.job_id for held in picked]),
        )
        await reach(Point.DISPATCH_STORED)
        in_order = [moved[held.job_id] for held in picked if held.job_id in moved]
        for held in picked:
            if held.job_id not in moved:
                self.board.abandon(held)
        for job in in_order:
            self.board.observe(job.after)
        changed = [job.after for job in in_order if job.changed]
        await hand_over(changed, stages, publisher=self.publisher, tickets=self.tickets)


def _pick(pool: str, board: Board) -> list[Held]:
    picked: list[Held] = []
    while len(picked) < BATCH and (held := board.pick(pool)):
        picked.append(held)
    return picked


async def hand_over(
    dispatched: Sequence[Job], stages: Mapping[str, Stages], *, publisher: Publisher, tickets: Tickets
) -> None:
    """Publish dispatched jobs, with the stages of each, to their pools, in order.

    The reconciler publishes jobs again that the broker refuses.
    """
    await reach(Point.DISPATCH_STAGES_READ)
    await asyncio.gather(*(_publish_alone(job, stages.get(job.id, []), publisher, tickets) for job in dispatched))
    await reach(Point.DISPATCH_HANDED_OVER)


async def _publish_alone(job: Job, stages: Stages, publisher: Publisher, tickets: Tickets) -> None:
    """Publish a job; an error about it does not keep others from their graders."""
    with isolated("dispatch", **job.context):
        await _publish(job, stages, publisher, tickets)


async def _publish(job: Job, stages: Stages, publisher: Publisher, tickets: Tickets) -> None:
    if job.state is not JobState.DISPATCHED:
        return
    event = JobDispatched(
        **ids_of(job),
        assignment=job.assignment,
        phase=job.phase,
        attempt=job.starts + 1,
        stages=stages,
        avoid=job.avoid,
        ticket=tickets.of(job.id, job.generation),
    )
    try:
        await publisher.publish(JOBS, ready_key(job.pool), event)
    except PublishError as error:
        log.warning("job not handed over", pool=job.pool, error=str(error), **job.context)

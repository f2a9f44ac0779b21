"""Hold course messages until their jobs have settled, and dispatch jobs to graders, fairly and as late as possible."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from broadway.dispatcher.board import Board
from broadway.dispatcher.hand_over import HandOver
from broadway.dispatcher.held import Held
from broadway.dispatcher.ports import EndingRuns
from broadway.domain.job import Job, JobClass
from broadway.lifecycle.stores import JobsById
from broadway.messages.events import Event, JobQueued
from broadway.ports import PublishError, Reject, Retry, StoreError
from broadway.runtime.batching import Batcher
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

BATCH = 50  # jobs dispatched at a time
PAUSE_AFTER_FAILURE = 1.0  # seconds


class Intake:
    """The handler of the course queues. It returns, which acknowledges the message, once the message's job settles."""

    def __init__(self, board: Board, jobs: JobsById) -> None:
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
        runs: The stored runs.
        hand_over: Publishes jobs to the graders of their pools.
    """

    board: Board
    runs: EndingRuns
    hand_over: HandOver

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
                await reach(Point.DISPATCH_PICKED)
                due = await self._without_ending(picked)
                await self.hand_over.publish([held.job_id for held in due], pool)
            except (StoreError, PublishError) as error:
                log.warning("dispatching pauses", reason=str(error))
                for held in picked:
                    self.board.put_back(held)
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


def _pick(pool: str, board: Board) -> list[Held]:
    picked: list[Held] = []
    while len(picked) < BATCH and (held := board.pick(pool)):
        picked.append(held)
    return picked

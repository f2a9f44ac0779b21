"""The times at which the reconciler makes its expensive queries."""

import asyncio
from datetime import timedelta
from typing import Any

from harness import PATIENCE as TEST_PATIENCE

from broadway.dispatcher.board import Board
from broadway.dispatcher.lost_jobs import LostJobs
from broadway.dispatcher.patience import Patience
from broadway.dispatcher.reconcile import Reconciler
from broadway.domain.job import RetryPolicy

HOUR = 3600.0


class Slow(Reconciler):
    """A reconciler whose thorough sweeps each report a duration of an hour."""

    thorough: asyncio.Semaphore

    async def sweep(self) -> None:
        pass

    async def sweep_thoroughly(self) -> float:
        self.thorough.release()
        return HOUR


def slow(patience: Patience) -> Slow:
    """Return a reconciler without a store and a broker, which it does not need."""
    nothing: Any = None
    board = Board()
    return Slow(
        board=board,
        jobs=nothing,
        runs=nothing,
        graders=nothing,
        broker=nothing,
        policy=RetryPolicy(),
        lease=timedelta(seconds=1),
        hand_over=nothing,
        lost_jobs=LostJobs(board, nothing, nothing, nothing, nothing),
        patience=patience,
    )


async def test_a_long_sweep_does_not_delay_the_next_one_for_long() -> None:
    sweeper = slow(Patience(longest_rest=0.05))
    sweeper.thorough = asyncio.Semaphore(0)
    sweeping = asyncio.create_task(sweeper.run(interval=0.001))
    try:
        async with asyncio.timeout(TEST_PATIENCE):
            for _ in range(3):
                await sweeper.thorough.acquire()
    finally:
        sweeping.cancel()

"""When the reconciler asks its expensive questions."""

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest

from broadway.dispatcher import reconcile
from broadway.dispatcher.board import Board
from broadway.dispatcher.reconcile import Reconciler
from broadway.job import RetryPolicy
from broadway.ticket import Tickets

HOUR = 3600.0


class Slow(Reconciler):
    """Its thorough sweeps say that they have taken an hour each."""

    thorough: asyncio.Semaphore

    async def sweep(self) -> None:
        pass

    async def sweep_thoroughly(self) -> float:
        self.thorough.release()
        return HOUR


async def test_a_sweep_that_took_long_does_not_put_the_next_one_off_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "LONGEST_REST", 0.05)
    nothing = cast("Any", None)
    sweeper = Slow(
        board=Board(),
        jobs=nothing,
        runs=nothing,
        workers=nothing,
        broker=nothing,
        policy=RetryPolicy(),
        lease=timedelta(seconds=1),
        tickets=Tickets(b"key"),
    )
    sweeper.thorough = asyncio.Semaphore(0)
    sweeping = asyncio.create_task(sweeper.run(interval=0.001))
    try:
        async with asyncio.timeout(30):
            for _ in range(3):
                await sweeper.thorough.acquire()
    finally:
        sweeping.cancel()

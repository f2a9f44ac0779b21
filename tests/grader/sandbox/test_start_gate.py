"""Starts of containers, one after another as long as that is worth it."""

import asyncio
import contextlib

import pytest

from broadway.grader.sandbox.start_gate import MAX_WAIT, WAIT_FRACTION, StartGate

WITHIN = 60  # seconds in which what has to happen does


class Start:
    """One that lasts until it is told to end."""

    def __init__(self, turns: StartGate) -> None:
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.task = asyncio.create_task(self._go(turns))

    async def _go(self, turns: StartGate) -> None:
        async with turns.take():
            self.has_begun.set()
            await self.may_end.wait()

    async def begin(self) -> None:
        async with asyncio.timeout(WITHIN):
            await self.has_begun.wait()

    async def end(self) -> None:
        self.may_end.set()
        await self.task


def with_stages_of(turns: StartGate, seconds: float) -> StartGate:
    for _ in range(100):
        turns.note(seconds)
    return turns


async def test_one_begins_when_the_other_has_ended() -> None:
    turns = with_stages_of(StartGate(1), 60)
    first, second = Start(turns), Start(turns)
    await first.begin()
    assert not second.has_begun.is_set()
    await first.end()
    await second.begin()
    await second.end()


async def test_as_many_at_a_time_as_do_not_disturb_each_other() -> None:
    turns = with_stages_of(StartGate(2), 60)
    starts = [Start(turns) for _ in range(3)]
    for start in starts[:2]:
        await start.begin()
    assert not starts[2].has_begun.is_set()
    for start in starts:
        await start.end()


async def test_nobody_waits_where_stages_take_no_time() -> None:
    turns = with_stages_of(StartGate(1), 0)
    starts = [Start(turns) for _ in range(3)]
    for start in starts:
        await start.begin()
    for start in starts:
        await start.end()


async def test_one_that_hangs_holds_nobody_up_for_long() -> None:
    turns = with_stages_of(StartGate(1, longest=0.01), 60)
    hanging, other = Start(turns), Start(turns)
    await other.begin()
    await other.end()
    await hanging.end()


async def test_whoever_gives_up_leaves_the_turn_to_the_next() -> None:
    turns = with_stages_of(StartGate(1), 60)
    first, impatient, third = (Start(turns) for _ in range(3))
    await first.begin()
    impatient.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await impatient.task
    await first.end()
    await third.begin()
    await third.end()
    assert not impatient.has_begun.is_set()


def test_how_long_one_waits_is_a_share_of_what_stages_take() -> None:
    assert with_stages_of(StartGate(1), 0.3).max_wait == pytest.approx(0.3 * WAIT_FRACTION)
    assert with_stages_of(StartGate(1), 600).max_wait == MAX_WAIT

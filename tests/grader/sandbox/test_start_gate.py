"""Starts of containers, one after another as long as that helps."""

import asyncio
import contextlib

import pytest

from broadway.grader.sandbox.start_gate import MAX_WAIT, WAIT_FRACTION, StartGate

WITHIN = 60  # seconds; the timeout for expected events


class Start:
    """A start that lasts until it may end."""

    def __init__(self, gate: StartGate) -> None:
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.task = asyncio.create_task(self._go(gate))

    async def _go(self, gate: StartGate) -> None:
        async with gate.take():
            self.has_begun.set()
            await self.may_end.wait()

    async def begin(self) -> None:
        async with asyncio.timeout(WITHIN):
            await self.has_begun.wait()

    async def end(self) -> None:
        self.may_end.set()
        await self.task


def with_stages_of(gate: StartGate, seconds: float) -> StartGate:
    for _ in range(100):
        gate.note(seconds)
    return gate


async def test_a_start_waits_for_the_end_of_the_one_before() -> None:
    gate = with_stages_of(StartGate(1), 60)
    first, second = Start(gate), Start(gate)
    await first.begin()
    assert not second.has_begun.is_set()
    await first.end()
    await second.begin()
    await second.end()


async def test_as_many_starts_as_configured_run_at_a_time() -> None:
    gate = with_stages_of(StartGate(2), 60)
    starts = [Start(gate) for _ in range(3)]
    for start in starts[:2]:
        await start.begin()
    assert not starts[2].has_begun.is_set()
    for start in starts:
        await start.end()


async def test_starts_do_not_wait_if_stages_take_no_time() -> None:
    gate = with_stages_of(StartGate(1), 0)
    starts = [Start(gate) for _ in range(3)]
    for start in starts:
        await start.begin()
    for start in starts:
        await start.end()


async def test_a_start_that_hangs_does_not_block_others_for_long() -> None:
    gate = with_stages_of(StartGate(1, longest=0.01), 60)
    hanging, other = Start(gate), Start(gate)
    await other.begin()
    await other.end()
    await hanging.end()


async def test_a_cancelled_start_leaves_its_turn_to_the_next() -> None:
    gate = with_stages_of(StartGate(1), 60)
    first, impatient, third = (Start(gate) for _ in range(3))
    await first.begin()
    impatient.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await impatient.task
    await first.end()
    await third.begin()
    await third.end()
    assert not impatient.has_begun.is_set()


def test_the_maximum_wait_is_a_fraction_of_the_duration_of_stages() -> None:
    assert with_stages_of(StartGate(1), 0.3).max_wait == pytest.approx(0.3 * WAIT_FRACTION)
    assert with_stages_of(StartGate(1), 600).max_wait == MAX_WAIT

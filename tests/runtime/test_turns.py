"""Work of lower ranks has its turn first, and each rank has its limit."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from broadway.runtime.turns import Turns

SMALL, LARGE = 0, 1


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def hold(turns: Turns, rank: int, order: list[int], end: asyncio.Event) -> None:
    async with turns.turn(rank):
        order.append(rank)
        await end.wait()


async def test_higher_ranks_leave_room_for_lower_ones() -> None:
    turns, order, end = Turns({SMALL: 3, LARGE: 1}), list[int](), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for rank in (LARGE, LARGE, SMALL, SMALL, SMALL):
            group.create_task(hold(turns, rank, order, end))
        await settled()
        assert order == [LARGE, SMALL, SMALL]
        assert turns.running == 3
        end.set()

    assert order == [LARGE, SMALL, SMALL, SMALL, LARGE], "a lower rank goes first"
    assert turns.running == 0


@pytest.mark.parametrize("is_granted", [False, True])
async def test_a_cancelled_wait_takes_no_turn(is_granted: bool) -> None:
    turns = Turns({SMALL: 1})
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(turns.turn(SMALL))
        waiting = asyncio.create_task(stack.enter_async_context(turns.turn(SMALL)))
        await settled()
        if is_granted:  # in the same moment
            await stack.aclose()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with turns.turn(SMALL):
        assert turns.running == 1

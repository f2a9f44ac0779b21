"""Callers share calls; each gets the result of a call that started after it asked."""

import asyncio
from collections import Counter

import pytest

from broadway.runtime.shared_calls import SharedCalls


class Calls:
    """Calls that end when the test says so; each returns its number."""

    def __init__(self) -> None:
        self.begun = 0
        self.ends: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.cancelled = 0
        self.started = asyncio.Condition()

    async def call(self, key: str) -> str:
        self.begun += 1
        number = self.begun
        async with self.started:
            self.started.notify_all()
        try:
            error = await self.ends.get()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if error:
            raise error
        return f"{key}{number}"

    async def until_begun(self, number: int) -> None:
        async with self.started:
            await self.started.wait_for(lambda: self.begun >= number)


@pytest.fixture
def calls() -> Calls:
    return Calls()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_asks_while_a_call_runs_shares_the_next_one(calls: Calls) -> None:
    shared = SharedCalls(calls.call)
    first = asyncio.create_task(shared.get("a"))
    await calls.until_begun(1)
    later = [asyncio.create_task(shared.get("a")) for _ in range(50)]
    await settled()
    assert calls.begun == 1, "calls of one key do not overlap"
    for _ in range(2):
        calls.ends.put_nowait(None)

    assert await first == "a1"
    assert Counter(await asyncio.gather(*later)) == {"a2": 50}


async def test_calls_of_different_keys_run_at_the_same_time(calls: Calls) -> None:
    shared = SharedCalls(calls.call)
    both = [asyncio.create_task(shared.get(key)) for key in "ab"]
    await calls.until_begun(2)
    for _ in range(2):
        calls.ends.put_nowait(None)

    assert sorted(await asyncio.gather(*both)) == ["a1", "b2"]
    await settled()
    assert len(shared) == 0


async def test_an_error_is_raised_for_all_who_share_the_call(calls: Calls) -> None:
    shared = SharedCalls(calls.call)
    both = [asyncio.create_task(shared.get("a")) for _ in range(2)]
    calls.ends.put_nowait(ValueError("no"))

    assert [str(each) for each in await asyncio.gather(*both, return_exceptions=True)] == ["no", "no"]
    assert calls.begun == 1


async def test_a_call_goes_on_while_one_of_its_callers_waits_and_is_cancelled_with_the_last(calls: Calls) -> None:
    shared = SharedCalls(calls.call)
    one, two = [asyncio.create_task(shared.get("a")) for _ in range(2)]
    await calls.until_begun(1)
    one.cancel()
    await settled()
    assert calls.cancelled == 0
    two.cancel()
    await settled()
    assert (calls.cancelled, calls.begun) == (1, 1)

    again = asyncio.create_task(shared.get("a"))
    calls.ends.put_nowait(None)
    assert await again == "a2"


async def test_a_call_that_nobody_waits_for_any_more_does_not_begin(calls: Calls) -> None:
    shared = SharedCalls(calls.call)
    first = asyncio.create_task(shared.get("a"))
    await calls.until_begun(1)
    second = asyncio.create_task(shared.get("a"))
    await settled()
    second.cancel()
    await settled()
    third = asyncio.create_task(shared.get("a"))
    await settled()
    for _ in range(2):
        calls.ends.put_nowait(None)

    assert [await first, await third] == ["a1", "a2"]
    assert calls.begun == 2


async def test_who_asks_during_the_rest_after_a_call_shares_the_next_one(calls: Calls) -> None:
    shared = SharedCalls(calls.call, share=1e-9, longest_rest=0.05)
    first = asyncio.create_task(shared.get("a"))
    await calls.until_begun(1)
    calls.ends.put_nowait(None)
    await first
    resting = [asyncio.create_task(shared.get("a")) for _ in range(3)]
    await settled()
    resting.append(asyncio.create_task(shared.get("a")))
    calls.ends.put_nowait(None)

    assert set(await asyncio.gather(*resting)) == {"a2"}

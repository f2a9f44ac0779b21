"""The cache of values that are read again and again."""

import asyncio

import pytest

from broadway.mongo.cache import LIFETIME, REFRESHED, Cache


class Source:
    """A value that is read when the test lets the read end, at the test's time."""

    def __init__(self, value: str | None) -> None:
        self.value = value
        self.now = 0.0
        self.reads = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.cache = Cache(self.read, clock=lambda: self.now)

    async def read(self, _: str) -> str | None:
        self.reads += 1
        value = self.value
        await self.may_end.wait()
        if value == "broken":
            raise LookupError(value)
        return value

    async def both(self, times: int = 2) -> list[str | None]:
        return list(await asyncio.gather(*(self.cache.get("key") for _ in range(times))))


async def test_callers_of_an_expired_value_share_a_read() -> None:
    source = Source("old")
    assert await source.both(100) == ["old"] * 100
    source.now, source.value = LIFETIME, "new"
    assert await source.both(100) == ["new"] * 100
    assert source.reads == 2


async def test_a_value_is_read_again_before_a_caller_has_to_wait_for_it() -> None:
    source = Source("old")
    await source.cache.get("key")
    source.now, source.value = REFRESHED, "new"
    source.may_end.clear()
    assert await source.both() == ["old", "old"]
    await asyncio.sleep(0)
    assert source.reads == 2

    source.may_end.set()
    while await source.cache.get("key") == "old":  # noqa: ASYNC110 - the read ends by itself
        await asyncio.sleep(0)
    assert source.reads == 2


async def test_a_change_of_this_process_is_seen_although_a_read_is_under_way() -> None:
    source = Source("old")
    source.may_end.clear()
    early = asyncio.create_task(source.cache.get("key"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    source.value = "new"
    source.cache.forget("key")
    late = asyncio.create_task(source.cache.get("key"))
    await asyncio.sleep(0)
    source.may_end.set()

    assert [await early, await late, await source.cache.get("key")] == ["old", "new", "new"]


async def test_a_value_that_is_stored_during_a_read_is_found_by_a_later_caller() -> None:
    source = Source(None)
    source.may_end.clear()
    early = asyncio.create_task(source.cache.get("key"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    source.value = "stored"
    late = asyncio.create_task(source.cache.get("key"))
    await asyncio.sleep(0)
    source.may_end.set()

    assert [await early, await late] == [None, "stored"]


async def test_all_callers_get_a_reads_error_and_the_next_one_reads_again() -> None:
    source = Source("broken")
    results = await asyncio.gather(*(source.cache.get("key") for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in results] == [LookupError] * 3
    source.value = "whole"
    assert await source.cache.get("key") == "whole"


async def test_a_caller_that_gives_up_does_not_end_the_read_of_another() -> None:
    source = Source("value")
    source.may_end.clear()
    first, second = (asyncio.create_task(source.cache.get("key")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.may_end.set()

    assert (await second, source.reads) == ("value", 1)

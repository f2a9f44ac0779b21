"""A value is read again before it is too old, and readers of it do not wait."""

import asyncio

import pytest
from harness import until

from broadway.runtime.refreshed import Refreshed

FRESH = 16.0
LONG = 2.0  # seconds of a read


class Source:
    """Numbered values. A read takes some time of the clock, and ends when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.begun = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    def clock(self) -> float:
        return self.now

    async def read(self) -> tuple[int, float]:
        self.begun += 1
        number, begun = self.begun, self.now
        await self.gate.wait()
        self.now += LONG
        if self.error:
            raise self.error
        return number, begun


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def value(source: Source) -> Refreshed[int]:
    """A value that was read: at the source's time 100, until its time 102."""
    value = Refreshed(source.read, fresh=FRESH, clock=source.clock)
    assert await value.get() == 1
    return value


async def test_a_fresh_value_is_not_read_again(source: Source, value: Refreshed[int]) -> None:
    source.now += 1
    assert await value.get() == 1
    await asyncio.sleep(0)
    assert source.begun == 1


async def test_the_next_read_begins_before_the_value_is_too_old(source: Source, value: Refreshed[int]) -> None:
    source.now = 100 + FRESH - LONG
    source.gate.clear()
    assert [await value.get() for _ in range(3)] == [1, 1, 1]
    await asyncio.sleep(0)
    assert source.begun == 2
    source.gate.set()
    await until(lambda: source.now == 100 + FRESH)
    assert await value.get() == 2
    assert source.begun == 2


async def test_a_value_that_is_too_old_is_given_to_no_reader(source: Source, value: Refreshed[int]) -> None:
    source.now = 100 + FRESH
    assert await asyncio.gather(*(value.get() for _ in range(3))) == [2, 2, 2]


async def test_readers_wait_for_the_read_that_goes_on(source: Source, value: Refreshed[int]) -> None:
    source.now = 100 + FRESH - LONG
    source.gate.clear()
    await value.get()
    source.now = 100 + FRESH
    late = asyncio.create_task(value.get())
    await asyncio.sleep(0)
    source.gate.set()
    assert await late == 2


async def test_an_early_read_that_fails_is_no_error_of_its_reader(source: Source, value: Refreshed[int]) -> None:
    source.now = 100 + FRESH - LONG
    source.error = OSError("away")
    assert await value.get() == 1
    await asyncio.sleep(0)
    source.now = 100 + FRESH
    with pytest.raises(OSError, match="away"):
        await value.get()


async def test_a_reader_that_leaves_ends_no_read_of_others(source: Source) -> None:
    value = Refreshed(source.read, fresh=FRESH, clock=source.clock)
    source.gate.clear()
    first, second = asyncio.create_task(value.get()), asyncio.create_task(value.get())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    source.gate.set()
    assert await second == 1


async def test_the_latest_value_counts(source: Source, value: Refreshed[int]) -> None:
    value.put(7, 101.0)
    value.put(6, 100.0)
    assert await value.get() == 7
    assert source.begun == 1

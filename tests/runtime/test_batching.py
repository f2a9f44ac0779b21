"""Batches: each item is flushed once, and each submitter gets the result of its own item."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from harness import until

from broadway.ports import Retry
from broadway.runtime.batching import Batcher


class Flushes:
    """Records its batches, and fails at items that are called bad."""

    def __init__(self, *, error: Callable[[str], Exception] = ValueError) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._error = error

    async def __call__(self, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        await self.gate.wait()
        if bad := [item for item in items if item.startswith("bad")]:
            raise self._error(f"no {bad[0]}")
        return [item.upper() for item in items]


@contextlib.asynccontextmanager
async def running(batcher: Batcher[str, str]) -> AsyncIterator[None]:
    task = asyncio.create_task(batcher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_items_that_arrive_together_are_flushed_together() -> None:
    flush = Flushes()
    batcher = Batcher(flush)
    async with running(batcher):
        answers = await asyncio.gather(*(batcher.submit(f"i{number}") for number in range(50)))

    assert flush.batches == [[f"i{number}" for number in range(50)]]
    assert answers == [f"I{number}" for number in range(50)]


async def test_batches_have_a_maximum_size() -> None:
    flush = Flushes()
    batcher = Batcher(flush, size=20)
    async with running(batcher):
        await asyncio.gather(*(batcher.submit(f"i{number}") for number in range(50)))

    assert [len(batch) for batch in flush.batches] == [20, 20, 10]


async def test_a_submission_returns_after_its_item_is_flushed() -> None:
    flush = Flushes()
    flush.gate.clear()
    batcher = Batcher(flush)
    async with running(batcher):
        waiting = asyncio.create_task(batcher.submit("i"))
        await until(lambda: flush.batches)
        assert not waiting.done()
        flush.gate.set()
        await waiting


async def test_items_that_arrive_during_a_flush_are_the_next_batch() -> None:
    flush = Flushes()
    flush.gate.clear()
    batcher = Batcher(flush)
    async with running(batcher), asyncio.TaskGroup() as group:
        group.create_task(batcher.submit("first"))
        await until(lambda: flush.batches)
        for name in ("second", "third"):
            group.create_task(batcher.submit(name))
        flush.gate.set()

    assert flush.batches == [["first"], ["second", "third"]]


async def test_a_bad_item_fails_alone() -> None:
    flush = Flushes()
    batcher = Batcher(flush)
    async with running(batcher):
        answers = await asyncio.gather(*map(batcher.submit, ["a", "bad", "b"]), return_exceptions=True)

    assert answers[::2] == ["A", "B"]
    assert isinstance(answers[1], ValueError)
    assert str(answers[1]) == "no bad"
    assert flush.batches == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


async def test_a_retry_applies_to_the_whole_batch() -> None:
    flush = Flushes(error=Retry)
    batcher = Batcher(flush)
    async with running(batcher):
        answers = await asyncio.gather(*map(batcher.submit, ["a", "bad", "b"]), return_exceptions=True)

    assert [type(answer) for answer in answers] == [Retry] * 3
    assert flush.batches == [["a", "bad", "b"]]


async def test_a_failure_does_not_end_the_batcher() -> None:
    flush = Flushes()
    batcher = Batcher(flush)
    async with running(batcher):
        with pytest.raises(ValueError, match="no bad"):
            await batcher.submit("bad")
        await batcher.submit("good")

    assert flush.batches == [["bad"], ["good"]]


async def test_a_cancelled_submitter_does_not_disturb_the_batch() -> None:
    flush = Flushes()
    flush.gate.clear()
    batcher = Batcher(flush)
    async with running(batcher):
        leaving, staying = (asyncio.create_task(batcher.submit(name)) for name in ("leaving", "staying"))
        await until(lambda: flush.batches)
        leaving.cancel()
        await asyncio.wait([leaving])
        flush.gate.set()
        await staying
        await batcher.submit("later")

    assert flush.batches == [["leaving", "staying"], ["later"]]


async def test_submitters_do_not_wait_for_an_ended_batcher() -> None:
    flush = Flushes()
    flush.gate.clear()
    batcher = Batcher(flush)
    async with running(batcher):
        flushing = asyncio.create_task(batcher.submit("flushing"))
        await until(lambda: flush.batches)
        waiting = asyncio.create_task(batcher.submit("waiting"))
        await asyncio.sleep(0)
    for submitted in (flushing, waiting, asyncio.create_task(batcher.submit("late"))):
        with pytest.raises(Retry, match="shutting down"):
            await submitted

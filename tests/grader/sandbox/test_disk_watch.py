"""The reasons to ask an engine for a container's disk usage, and the consequences of its answer."""

import asyncio
import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broadway.grader.sandbox import disk_watch
from broadway.grader.sandbox.disk_watch import DiskWatch

LIMIT = 400
PLACE = Path("/engine")


class Engine:
    """Returns sizes one after another."""

    def __init__(self, *sizes: int | None) -> None:
        self.sizes = list(sizes)

    async def measure(self) -> int | None:
        return self.sizes.pop(0)


def has_free(monkeypatch: pytest.MonkeyPatch, sizes: Iterable[int]) -> list[int]:
    """Let checks of the free space find ``sizes``, one after another; return the list of the sizes found."""
    found, rest = [], iter(sizes)

    def statvfs(place: Path) -> SimpleNamespace:
        assert place == PLACE
        found.append(next(rest))
        return SimpleNamespace(f_bavail=found[-1], f_frsize=1)

    monkeypatch.setattr(disk_watch.os, "statvfs", statvfs)
    return found


def watching(
    engine: Engine,
    *,
    place: Path | None = PLACE,
    limit: float = LIMIT,
    ask_after: float = math.inf,
    ask_anyway: float = math.inf,
) -> DiskWatch:
    """Return a watch that checks without pauses, and that never asks because of the time."""
    return DiskWatch(limit, place, engine.measure, check_interval=0, ask_after=ask_after, ask_anyway=ask_anyway)


async def exceeds(engine: Engine, **more: Any) -> None:
    watch = watching(engine, **more)
    watch.begin()
    async with asyncio.timeout(60):
        await watch.exceeded()


async def test_a_large_loss_of_free_space_is_a_reason_to_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_free(monkeypatch, [1000, 1000, 950, 900, 899, 899])
    await exceeds(Engine(LIMIT + 1))
    assert found == [1000, 1000, 950, 900, 899, 899], "the last look is that of asking"


async def test_after_an_answer_below_the_limit_the_next_large_loss_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_free(monkeypatch, [1000, 899, 899, 799, 798, 798])
    engine = Engine(LIMIT, LIMIT + 1)
    await exceeds(engine)
    assert engine.sizes == []
    assert found[-1] == 798


async def test_a_loss_is_measured_from_the_largest_free_space(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_free(monkeypatch, [1000, 2000, 1950, 1899, 1899])
    await exceeds(Engine(LIMIT + 1))
    assert found[-1] == 1899


async def test_a_small_loss_is_a_reason_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_free(monkeypatch, [1000, 1000, 1000, 999, 999])
    await exceeds(Engine(LIMIT + 1), ask_after=0)
    assert found == [1000, 1000, 1000, 999, 999]


async def test_after_a_long_time_the_engine_is_asked_without_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    has_free(monkeypatch, itertools.repeat(1000))
    await exceeds(Engine(LIMIT + 1), ask_anyway=0)


async def test_an_engine_on_another_host_is_asked_at_intervals() -> None:
    engine = Engine(None, LIMIT, LIMIT + 1)
    await exceeds(engine, place=None, ask_after=0)
    assert engine.sizes == []


async def test_a_container_that_cannot_write_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_free(monkeypatch, [1000])
    watch = watching(Engine(), limit=math.inf)
    watch.begin()
    task = asyncio.create_task(watch.exceeded())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    assert found == [1000]
    task.cancel()


@pytest.mark.parametrize(
    ("free", "told", "is_over"),
    [([1000, 899, 899], [LIMIT + 1], True), ([1000, 899, 899], [LIMIT], False), ([1000, 900], [], False)],
)
async def test_an_ended_container_is_measured_only_after_a_large_loss(
    monkeypatch: pytest.MonkeyPatch, free: list[int], told: list[int], is_over: bool
) -> None:
    found, engine = has_free(monkeypatch, free), Engine(*told)
    watch = watching(engine)
    watch.begin()
    assert await watch.was_exceeded() is is_over
    assert (found, engine.sizes) == (free, [])


async def test_an_ended_container_on_another_host_is_not_measured() -> None:
    watch = watching(Engine(), place=None)
    watch.begin()
    assert not await watch.was_exceeded()

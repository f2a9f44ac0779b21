"""When an engine is asked what a container has written, and what follows."""

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
    """Tells sizes one after another."""

    def __init__(self, *sizes: int | None) -> None:
        self.sizes = list(sizes)

    async def measure(self) -> int | None:
        return self.sizes.pop(0)


def has_free(monkeypatch: pytest.MonkeyPatch, sizes: Iterable[int]) -> list[int]:
    """Let looks find so much free space, one after another; those that there have been."""
    found, rest = [], iter(sizes)

    def look(place: Path) -> SimpleNamespace:
        assert place == PLACE
        found.append(next(rest))
        return SimpleNamespace(f_bavail=found[-1], f_frsize=1)

    monkeypatch.setattr(disk_watch.os, "statvfs", look)
    return found


def watching(
    engine: Engine,
    *,
    place: Path | None = PLACE,
    limit: float = LIMIT,
    ask_after: float = math.inf,
    ask_anyway: float = math.inf,
) -> DiskWatch:
    """A watch whose looks come one after another, and that asks for nothing because of the time."""
    return DiskWatch(limit, place, engine.measure, check_interval=0, ask_after=ask_after, ask_anyway=ask_anyway)


async def exceeds(engine: Engine, **more: Any) -> None:
    watch = watching(engine, **more)
    watch.begin()
    async with asyncio.timeout(60):
        await watch.exceeded()


async def test_much_less_free_space_is_a_reason_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_free(monkeypatch, [1000, 1000, 950, 900, 899, 899])
    await exceeds(Engine(LIMIT + 1))
    assert found == [1000, 1000, 950, 900, 899, 899], "the last look is that of asking"


async def test_what_is_below_the_limit_is_asked_for_again_once_as_much_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_free(monkeypatch, [1000, 899, 899, 799, 798, 798])
    engine = Engine(LIMIT, LIMIT + 1)
    await exceeds(engine)
    assert engine.sizes == []
    assert found[-1] == 798


async def test_space_that_others_give_back_is_the_new_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_free(monkeypatch, [1000, 2000, 1950, 1899, 1899])
    await exceeds(Engine(LIMIT + 1))
    assert found[-1] == 1899


async def test_little_less_is_a_reason_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_free(monkeypatch, [1000, 1000, 1000, 999, 999])
    await exceeds(Engine(LIMIT + 1), ask_after=0)
    assert found == [1000, 1000, 1000, 999, 999]


async def test_after_long_there_need_be_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    has_free(monkeypatch, itertools.repeat(1000))
    await exceeds(Engine(LIMIT + 1), ask_anyway=0)


async def test_an_engine_elsewhere_is_asked_now_and_then() -> None:
    engine = Engine(None, LIMIT, LIMIT + 1)
    await exceeds(engine, place=None, ask_after=0)
    assert engine.sizes == []


async def test_what_cannot_write_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
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
async def test_one_that_has_ended(
    monkeypatch: pytest.MonkeyPatch, free: list[int], told: list[int], is_over: bool
) -> None:
    found, engine = has_free(monkeypatch, free), Engine(*told)
    watch = watching(engine)
    watch.begin()
    assert await watch.was_exceeded() is is_over
    assert (found, engine.sizes) == (free, [])


async def test_one_of_an_engine_elsewhere_that_has_ended() -> None:
    watch = watching(Engine(), place=None)
    watch.begin()
    assert not await watch.was_exceeded()

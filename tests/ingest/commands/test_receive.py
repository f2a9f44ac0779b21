"""New deliveries of a hook: how often its oldest ones are looked for."""

import asyncio
from typing import Any, cast

import pytest

from broadway.domain.webhook import Delivery, Hook, HookConfig, Ignored
from broadway.ingest.commands.limits import Limits
from broadway.ingest.commands.receive import CLEAN_AFTER, CLEAN_SHARE, Arrival, Receiver
from broadway.ingest.commands.undecided import UndecidedDeliveries

HOOK = Hook("cs", "git", HookConfig(assignment="mp1", secrets=("a-secret-of-this-hook",)))


class Kept:
    """Deliveries that are kept, and the courses, of which there is none."""

    def __init__(self) -> None:
        self.cleanings = 0

    async def keep(self, delivery: Delivery) -> tuple[Delivery, bool]:
        return delivery, True

    async def keep_latest(self, _course: str, _hook: str, _number: int) -> int:
        self.cleanings += 1
        return 0

    async def get(self, _course: str) -> None:
        return None


@pytest.mark.parametrize(
    ("kept", "every"),
    [(3, CLEAN_AFTER), (CLEAN_AFTER * CLEAN_SHARE, CLEAN_AFTER), (CLEAN_AFTER * CLEAN_SHARE * 4, CLEAN_AFTER * 4)],
)
async def test_the_oldest_deliveries_are_looked_for_after_a_share_of_those_that_are_kept(kept: int, every: int) -> None:
    store, tasks = Kept(), []
    later: Any = lambda coroutine: tasks.append(asyncio.create_task(coroutine))  # noqa: E731
    unused, kept_ones = cast("Any", None), cast("Any", store)
    undecided = UndecidedDeliveries(kept_ones, unused)
    receiver = Receiver(store, unused, kept_ones, undecided, Limits(1.0, deliveries=kept), later)
    for number in range(2 * every + 1):
        await receiver.keep(Arrival(HOOK, Ignored("a test"), str(number), b"{}"))
    await asyncio.gather(*tasks)
    assert store.cleanings == 3

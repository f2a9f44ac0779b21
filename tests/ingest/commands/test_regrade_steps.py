"""The sweep over regrades through the real store."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from secrets import token_hex
from typing import Any, cast

from classes import CONFIG
from pymongo.asynchronous.database import AsyncDatabase
from stored import course, database, shared_place, store

from broadway.domain.regrade import OPEN_PARTS, Item, Part, PartKind, Regrade, RegradeOrder
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.domain.run import RunState
from broadway.ingest.commands.regrade_steps import LOOKED_AT, RegradeSteps
from broadway.lifecycle.steps import Step
from broadway.mongo.regrades import Regrades
from broadway.mongo.store import Store

__all__ = ["course", "database", "shared_place", "store"]

Database = AsyncDatabase[dict[str, Any]]

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
MORE = 3


@dataclass
class Resumed:
    """The publications that were resumed."""

    ids: list[str] = field(default_factory=list)

    async def resume(self, regrade: Regrade) -> None:
        self.ids.append(regrade.id)


class Counted(Regrades):
    """Regrades that count the reads of all parts."""

    reads = 0

    async def parts(self, regrade: Regrade) -> list[Part]:
        self.reads += 1
        return await super().parts(regrade)


@dataclass
class Announced:
    """The number of announced steps."""

    steps: int = 0

    def step(self, _: Step) -> None:
        self.steps += 1


async def test_the_parts_of_a_large_regrade_are_read_once(store: Store, course: str, database: Database) -> None:
    regrades = Counted(database["regrade"], database["regrade_part"])
    identity, count = token_hex(12), LOOKED_AT + 3
    order = RegradeOrder(Select.ALL)
    running = Regrade(identity, course, "mp1", order, CONFIG, "d", LONG_AGO, plans=("p",), state=RegradeState.RUNNING)
    assert await regrades.add(running)
    items = [Item(f"s{number}", {"A": "1"}, "j", "e") for number in range(count)]
    await regrades.put_parts([Part(identity, "p", n, PartKind.NEW, (item,)) for n, item in enumerate(items)])
    announced, nothing = Announced(), cast(Any, None)
    steps = RegradeSteps(
        regrades=regrades,
        publications=nothing,
        planner=nothing,
        courses=store.courses,
        runs=store.runs,
        jobs=store.jobs,
        orders=nothing,
        announcements=cast(Any, announced),
        reports=nothing,
        logs=nothing,
    )
    began = list[int]()

    while (await regrades.get(course, identity) or running).state is RegradeState.RUNNING:
        await steps.advance(running)
        began.append(announced.steps)
        await database["grading_run"].update_many({"regrade": identity}, {"$set": {"state": RunState.FINISHED.value}})
        assert len(began) < 5 * count

    assert (regrades.reads, announced.steps) == (1, count)
    assert max(after - before for before, after in pairwise([0, *began])) == OPEN_PARTS


async def test_regrades_that_wait_keep_no_other_from_its_steps(store: Store, course: str) -> None:
    made = [token_hex(12) for _ in range(MORE)]
    order = RegradeOrder(Select.ALL)
    for identity in made:
        ready = Regrade(identity, course, "mp1", order, {}, "", LONG_AGO, state=RegradeState.READY)
        assert await store.grades.regrades.add(replace(ready, publishing_at=LONG_AGO))
    resumed, nothing = Resumed(), cast(Any, None)
    steps = RegradeSteps(store.grades.regrades, resumed, *[nothing] * 8)

    after = await steps.sweep("", limit=1)
    while after:
        after = await steps.sweep(after, limit=1)

    assert set(made) <= set(resumed.ids)
    assert await steps.sweep("", limit=1) in resumed.ids, "the next one begins again"

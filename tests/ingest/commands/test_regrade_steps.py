"""The sweep over regrades through the real store."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, cast

from stored import course, database, shared_place, store

from broadway.domain.regrade import Regrade, RegradeOrder, RegradeState, Select
from broadway.ingest.commands.regrade_steps import RegradeSteps
from broadway.mongo.store import Store

__all__ = ["course", "database", "shared_place", "store"]

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
MORE = 3


@dataclass
class Resumed:
    """The publications that were resumed."""

    ids: list[str] = field(default_factory=list)

    async def resume(self, regrade: Regrade) -> None:
        self.ids.append(regrade.id)


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

"""Pools' switches for graders without secrets: operators' requests, and what an upgrade turns on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from broadway.domain.grader import Grader
from broadway.domain.pool import Pool
from broadway.lifecycle.stores import CourseList, GraderList

log = structlog.get_logger(__name__)

GRACE = timedelta(days=7)  # for graders of an earlier version to be upgraded
MAX_NAMED = 5  # graders in the reason of a switch


class StoredPools(Protocol):
    """Stored settings of pools."""

    async def all(self) -> list[Pool]:
        """Return the pools whose settings have been changed, by name."""

    async def put(self, pool: Pool) -> None:
        """Store the settings of a pool."""

    async def put_first(self, pool: Pool) -> None:
        """Store the settings of a pool unless it has settings."""

    async def has_switches(self) -> bool:
        """Return whether the store has been used with switches before; a store of an earlier version has not."""

    async def note_switches(self, now: datetime) -> None:
        """Record that the store is used with switches from now on."""


class EveryGrader(GraderList, Protocol):
    """All stored graders."""

    async def give_grace(self, grader_ids: Sequence[str], until: datetime) -> None:
        """Let graders without secrets, of an earlier version, do without them until a moment."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool with its settings, its courses, and its graders that have no secret."""

    pool: Pool
    courses: list[str]
    graders: int
    without_secret: list[str]


@dataclass(frozen=True, slots=True)
class Pools:
    """The requests of operators about pools."""

    pools: StoredPools
    graders: EveryGrader
    courses: CourseList

    async def all(self) -> list[PoolState]:
        """Return the pools of courses, of graders, and of settings, by name."""
        changed = {pool.id: pool for pool in await self.pools.all()}
        courses, graders = await self.courses.all(), await self.graders.all()
        names = {"default", *changed, *(each.pool for each in courses), *(each.pool for each in graders)}
        return [
            PoolState(
                pool=changed.get(name) or Pool(name),
                courses=sorted(course.id for course in courses if course.pool == name),
                graders=sum(grader.pool == name for grader in graders),
                without_secret=[each.id for each in graders if each.pool == name and not each.has_secret],
            )
            for name in sorted(names)
        ]

    async def set(self, name: str, *, original_graders: bool) -> PoolState:
        """Turn a pool's switch on or off; return the pool as it is then."""
        await self.pools.put(Pool(name, original_graders, "an operator's order", datetime.now(UTC)))
        log.warning("pool changed", pool=name, original_graders=original_graders)
        return next(state for state in await self.all() if state.pool.id == name)

    async def begin(self, configured: Sequence[str], *, gateway_pool: str) -> None:
        """Turn on the switches of configured pools, and, once in a store's life, those that an upgrade needs.

        A store of an earlier version may know graders without secrets. The pools of the original's graders admit them
        from now on; our own graders that are running may be upgraded within ``GRACE``. ``gateway_pool`` is the pool of
        graders that name none.
        """
        now = datetime.now(UTC)
        for name in configured:
            await self.pools.put(Pool(name, original_graders=True, reason="--original-graders", changed_at=now))
        if await self.pools.has_switches():
            return
        graders = await self.graders.all()
        await self._admit_originals([grader for grader in graders if grader.is_of_original], gateway_pool, now)
        await self._give_grace([each for each in graders if each.alive and _is_ours(each)], now)
        await self.pools.note_switches(now)

    async def _admit_originals(self, graders: Sequence[Grader], gateway_pool: str, now: datetime) -> None:
        pools = {grader.id: {grader.pool, grader.pool if grader.gateway else gateway_pool} for grader in graders}
        for name in sorted(set().union(*pools.values())):
            ids = [grader_id for grader_id, of_grader in pools.items() if name in of_grader]
            named = ", ".join(ids[:MAX_NAMED]) + (", …" if len(ids) > MAX_NAMED else "")
            pool = Pool(name, original_graders=True, reason=f"the store knew the original's {named}", changed_at=now)
            await self.pools.put_first(pool)
            log.warning(
                "pool admits graders without a secret, since the store knows graders of the original; "
                "`broadway pool set` turns this off",
                pool=name,
                graders=ids[:MAX_NAMED],
            )

    async def _give_grace(self, graders: Sequence[Grader], now: datetime) -> None:
        if graders:
            ids = [grader.id for grader in graders]
            await self.graders.give_grace(ids, now + GRACE)
            log.warning("graders of an earlier version must be upgraded", graders=ids, until=now + GRACE)


def _is_ours(grader: Grader) -> bool:
    return not grader.has_secret and (grader.extended or grader.joined_at is not None)

"""Works of assignments that this process has read before: only those since then are read again.

Receipts and results are only added. One that is stored more than ``MARGIN`` after its time is found when all are read
again, after ``KEPT``. So drafts are read with these works, and publications with those of the store.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Generic, TypeVar

from broadway.domain.handed_in import HandedIn
from broadway.domain.results_of_work import Among, Receipt, Result
from broadway.ingest.reads.works import WorkQueries

MARGIN = timedelta(minutes=5)
KEPT = timedelta(minutes=10)
MOST = 60_000  # receipts, and as many results; the assignments that were read last

Item = TypeVar("Item")


@dataclass(slots=True)
class _Kept(Generic[Item]):
    """Items of an assignment by their ids; ``until`` is the latest time of one."""

    items: dict[str, Item]
    until: datetime
    read_at: datetime


@dataclass(slots=True)
class _Shelf(Generic[Item]):
    """The items of the assignments that were read last."""

    key: Callable[[Item], str]
    time: Callable[[Item], datetime]
    kept: OrderedDict[tuple[str, str], _Kept[Item]] = field(default_factory=OrderedDict)
    forgotten: set[tuple[str, str]] = field(default_factory=set)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_due(self, name: tuple[str, str]) -> bool:
        """Return whether all items of an assignment are to be read, not only the later ones."""
        known = self.kept.get(name)
        return known is None or name in self.forgotten or datetime.now(UTC) - known.read_at > KEPT

    def forget(self, name: tuple[str, str]) -> None:
        """Read all items of an assignment again next time."""
        self.forgotten.add(name)

    async def read(
        self, name: tuple[str, str], among: Among, read: Callable[[Among], Awaitable[list[Item]]]
    ) -> list[Item]:
        """Return all items of an assignment."""
        async with self.turn:
            now, is_due = datetime.now(UTC), self.is_due(name)
            known = self.kept.pop(name, None)
            if known is None or is_due:
                self.forgotten.discard(name)
                known = _Kept({}, now, now)
                found = await read(among)
            else:
                found = await read(Among(since=known.until - MARGIN))
            known.items |= {self.key(each): each for each in found}
            known.until = max(map(self.time, known.items.values()), default=now)
            self.kept[name] = known
            while len(self.kept) > 1 and sum(len(each.items) for each in self.kept.values()) > MOST:
                self.kept.popitem(last=False)
            return list(known.items.values())


class RecentWorks:
    """Works by assignment."""

    def __init__(self, works: WorkQueries) -> None:
        self._works = works
        self._receipts: _Shelf[Receipt] = _Shelf(lambda each: each.id, lambda each: each.at)
        self._results: _Shelf[Result] = _Shelf(
            lambda each: f"{each.job}:{each.generation}", lambda each: each.finished_at
        )

    async def receipts(self, course: str, assignment: str, among: Among) -> list[Receipt]:
        if among.students:
            return await self._works.receipts(course, assignment, among)

        async def read(those: Among) -> list[Receipt]:
            if those.since is None:  # receipts that are left out now have results that were stored until now
                self._results.forget((course, assignment))
            return await self._works.receipts(course, assignment, those)

        return await self._receipts.read((course, assignment), among, read)

    async def receipts_of(self, course: str, assignment: str, works: Sequence[str]) -> list[Receipt]:
        return await self._works.receipts_of(course, assignment, works)

    async def results(self, course: str, assignment: str, among: Among) -> list[Result]:
        read = partial(self._works.results, course, assignment)
        if among.students:
            return await read(among)
        if self._receipts.is_due((course, assignment)):  # first, or they would be read twice
            await self.receipts(course, assignment, among)
        return await self._results.read((course, assignment), among, read)

    async def waiting(self, course: str, assignment: str) -> list[HandedIn]:
        return await self._works.waiting(course, assignment)

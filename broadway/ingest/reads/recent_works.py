"""Works of assignments that this process has read before: only those since then are read again.

Receipts and results are only added. One that is stored more than ``MARGIN`` after its time is found when all are read
again, after ``KEPT``. So drafts are read with these works, and publications with those of the store.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Generic, Protocol, TypeVar

from broadway.domain.handed_in import HandedIn
from broadway.domain.results_of_work import Receipt, Result
from broadway.ingest.reads.works import OpenWorks

MARGIN = timedelta(minutes=5)
KEPT = timedelta(minutes=10)
MOST = 60_000  # receipts, and as many results; the assignments that were read last

Item = TypeVar("Item")


class WorksSince(OpenWorks, Protocol):
    """Queries on works and their results; see ``WorkQueries``."""

    async def receipts(
        self, course: str, assignment: str, students: Sequence[str] | None = None, *, since: datetime | None = None
    ) -> list[Receipt]:
        """Return the receipts of uploads: all, those of some students, or those since a time."""

    async def results(
        self, course: str, assignment: str, students: Sequence[str] | None = None, *, since: datetime | None = None
    ) -> list[Result]:
        """Return the results of works: all, those of some students, or those since a time."""


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
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, name: tuple[str, str], read: Callable[[datetime | None], Awaitable[list[Item]]]) -> list[Item]:
        """Return all items of an assignment."""
        async with self.turn:
            now = datetime.now(UTC)
            known = self.kept.pop(name, None)
            if known is None or now - known.read_at > KEPT:
                known = _Kept({}, now, now)
                found = await read(None)
            else:
                found = await read(known.until - MARGIN)
            known.items |= {self.key(each): each for each in found}
            known.until = max(map(self.time, known.items.values()), default=now)
            self.kept[name] = known
            while len(self.kept) > 1 and sum(len(each.items) for each in self.kept.values()) > MOST:
                self.kept.popitem(last=False)
            return list(known.items.values())


class RecentWorks:
    """Works by assignment."""

    def __init__(self, works: WorksSince) -> None:
        self._works = works
        self._receipts: _Shelf[Receipt] = _Shelf(lambda each: each.id, lambda each: each.at)
        self._results: _Shelf[Result] = _Shelf(
            lambda each: f"{each.job}:{each.generation}", lambda each: each.finished_at
        )

    async def receipts(self, course: str, assignment: str, students: Sequence[str] | None = None) -> list[Receipt]:
        if students is not None:
            return await self._works.receipts(course, assignment, students)
        return await self._receipts.read(
            (course, assignment), lambda since: self._works.receipts(course, assignment, since=since)
        )

    async def results(self, course: str, assignment: str, students: Sequence[str] | None = None) -> list[Result]:
        if students is not None:
            return await self._works.results(course, assignment, students)
        return await self._results.read(
            (course, assignment), lambda since: self._works.results(course, assignment, since=since)
        )

    async def waiting(self, course: str, assignment: str) -> list[HandedIn]:
        return await self._works.waiting(course, assignment)

"""Collections for many concurrent callers, whose reads and writes are sent in batches.

A shared read starts after all its callers have asked, so no caller gets stale data. If the store is idle, a call does
not wait for other calls.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, TypeVar

from broadway.domain.audit import AuditRecord
from broadway.domain.course import Course
from broadway.domain.job import Phase
from broadway.domain.run import PlannedJob, Run, RunState
from broadway.domain.webhook import Delivery
from broadway.mongo.assignments import Assignments
from broadway.mongo.audit import Audit
from broadway.mongo.cache import Cache
from broadway.mongo.callbacks import CallbackEvents
from broadway.mongo.collection import Collection, Document
from broadway.mongo.courses import Courses
from broadway.mongo.deliveries import Deliveries, DeliveryClaim, DeliveryMove
from broadway.mongo.errors import StoreUnavailableError
from broadway.mongo.jobs import Jobs
from broadway.mongo.outcomes import Outcomes
from broadway.mongo.runs import RunMove, Runs, published
from broadway.mongo.work_results import WorkResults
from broadway.runtime.batching import Batcher

MAX_ROSTERS = 20  # rosters of jobs in one write
LARGE_ROSTER = 200  # jobs; larger rosters are written alone

Value = TypeVar("Value")
Item = TypeVar("Item")
Answer = TypeVar("Answer")


def _reads(
    get_many: Callable[[Sequence[str]], Awaitable[Mapping[str, Value]]],
) -> Batcher[str, Value | None]:
    async def read(keys: Sequence[str]) -> list[Value | None]:
        found = await get_many(list(dict.fromkeys(keys)))
        return [found.get(key) for key in keys]

    return _batcher(read)


def _batcher(
    flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], *, size: int = 200, linger: float = 0
) -> Batcher[Item, Answer]:
    return Batcher(flush, size=size, linger=linger, common=StoreUnavailableError)


class BatchedCourses(Courses):
    """Courses, read in batches and cached for a moment."""

    def __init__(self, collection: Collection) -> None:
        super().__init__(collection)
        self.batchers = [reads := _reads(super().get_many)]
        self._cache = Cache(reads.submit)

    async def get(self, course_id: str) -> Course | None:
        return await self._cache.get(course_id)


class BatchedAssignments(Assignments):
    """Assignment configs, read in batches."""

    def __init__(self, collection: Collection) -> None:
        super().__init__(collection)
        self.batchers = [reads := _reads(super().get_many)]
        self._reads = reads

    async def get(self, course: str, assignment: str) -> Document | None:
        return await self._reads.submit(f"{course}/{assignment}")


class BatchedRuns(Runs):
    """Runs, read, stored, moved and claimed in batches.

    Args:
        collection: The collection of runs.
        students: The collection of the students' environments of large runs, which are not batched.
        events: The events of runs that end.
        linger: Seconds for which writes that clear the outbox are collected; larger batches cost less.
    """

    def __init__(
        self,
        collection: Collection,
        students: Collection,
        events: CallbackEvents | None = None,
        *,
        linger: float = 0,
    ) -> None:
        super().__init__(collection, students, events)
        self._reads = _reads(super().get_many)
        self._summaries = _reads(super().summaries)
        self._inserts = _batcher(super().insert_all)
        self._moves = _batcher(super().move_all)
        self._marks = _batcher(super().move_all, linger=linger)
        self.batchers: list[Batcher[Any, Any]] = [
            self._reads,
            self._summaries,
            self._inserts,
            self._moves,
            self._marks,
        ]

    async def get(self, run_id: str) -> Run | None:
        return await self._reads.submit(run_id)

    async def summary(self, run_id: str) -> Run | None:
        return await self._summaries.submit(run_id)

    async def _insert_small(self, run: Run) -> bool:
        return await self._inserts.submit(run)

    async def move(self, move: RunMove) -> bool:
        return await self._moves.submit(move)

    async def mark_published(self, run: Run, state: RunState) -> None:
        await self._marks.submit(published(run, state))


class BatchedDeliveries(Deliveries):
    """Deliveries to hooks, stored, moved and claimed in batches."""

    def __init__(self, collection: Collection) -> None:
        super().__init__(collection)
        self._inserts = _batcher(super().insert_all)
        self._moves = _batcher(super().move_all)
        self._claims = _batcher(super().claim_all)
        self.batchers: list[Batcher[Any, Any]] = [self._inserts, self._moves, self._claims]

    async def insert(self, delivery: Delivery) -> bool:
        return await self._inserts.submit(delivery)

    async def apply(self, move: DeliveryMove) -> bool:
        return await self._moves.submit(move)

    async def claim(self, delivery: Delivery, *, before: datetime, until: datetime) -> bool:
        return await self._claims.submit(DeliveryClaim(delivery, before, until))


class BatchedJobs(Jobs):
    """Jobs, stored and checked for open phases in batches."""

    def __init__(self, collection: Collection, outcomes: Outcomes, results: WorkResults) -> None:
        super().__init__(collection, outcomes, results)
        self._inserts: Batcher[Sequence[PlannedJob], None] = _batcher(self._insert_all, size=MAX_ROSTERS)
        self._phases = _batcher(super().are_phases_open)
        self.batchers: list[Batcher[Any, Any]] = [self._inserts, self._phases]

    async def insert(self, planned: Sequence[PlannedJob]) -> None:
        # The jobs of a large roster take long, and must not keep others waiting.
        await (self._inserts.submit(planned) if len(planned) <= LARGE_ROSTER else super().insert(planned))

    async def is_phase_open(self, run_id: str, phase: Phase) -> bool:
        return await self._phases.submit((run_id, phase))

    async def _insert_all(self, rosters: Sequence[Sequence[PlannedJob]]) -> list[None]:
        await super().insert(list(chain.from_iterable(rosters)))
        return [None] * len(rosters)


class BatchedAudit(Audit):
    """The audit log, written in batches.

    Args:
        collection: The collection of records.
        linger: Seconds for which records that are not urgent are collected; larger batches cost less.
    """

    def __init__(self, collection: Collection, *, linger: float = 0) -> None:
        super().__init__(collection)
        self._urgent = _batcher(super().add_all)
        self._others = _batcher(super().add_all, linger=linger)
        self.batchers = [self._urgent, self._others]

    async def add(self, record: AuditRecord, *, is_urgent: bool = True) -> None:
        await (self._urgent if is_urgent else self._others).submit(record)


@dataclass(frozen=True, slots=True)
class Batched:
    """The most used collections, with batched reads and writes."""

    courses: BatchedCourses
    assignments: BatchedAssignments
    runs: BatchedRuns
    jobs: BatchedJobs
    deliveries: BatchedDeliveries
    audit: BatchedAudit

    async def run(self) -> None:
        """Send batches until cancelled."""
        collections = (self.courses, self.assignments, self.runs, self.jobs, self.deliveries, self.audit)
        batchers: Iterable[Batcher[Any, Any]] = chain.from_iterable(batched.batchers for batched in collections)
        async with asyncio.TaskGroup() as group:
            for batcher in batchers:
                group.create_task(batcher.run())

"""The reconciler's expensive queries, and when it makes them."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar

from harness import PATIENCE as TEST_PATIENCE
from harness import until

from broadway.dispatcher.board import Board
from broadway.dispatcher.reconcile import DEEP, PATIENCE, Patience, Reconciler
from broadway.domain.job import Job, JobClass, Phase, RetryPolicy
from broadway.domain.run import RunState
from broadway.messages.events import Event
from broadway.messages.ticket import Tickets
from broadway.messages.topology import Exchange, Queue

HOUR = 3600.0
T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def queued(run: str) -> Job:
    return Job(
        id=f"job-of-{run}",
        run_id=run,
        course="cs1",
        assignment="mp1",
        phase=Phase.STUDENTS,
        index=0,
        job_class=JobClass.BULK,
        pool="default",
        queued_at=T0,
    )


BACKLOG = [("cs1", JobClass.BULK)]
AnyReconciler = TypeVar("AnyReconciler", bound=Reconciler)


class Busy:
    """A store with two runs of one job each, one of them always being published, and a broker with empty queues."""

    def __init__(self) -> None:
        self.published: list[Event] = []

    async def unpublished(self, _: datetime, *, limit: int) -> list[Any]:
        return [SimpleNamespace(id="new", course="cs1")][:limit]

    async def summary(self, _: str) -> Any:
        return SimpleNamespace(state=RunState.STUDENTS, phase=Phase.STUDENTS)

    async def count_queued(self, _: str, __: JobClass, *, unless_of: Sequence[str] = ()) -> int:
        return len({"old", "new"} - set(unless_of))

    async def queued(self, _: str, __: JobClass, *, limit: int, unless_of: Sequence[str] = ()) -> list[Job]:
        return [queued(run) for run in ("old", "new") if run not in unless_of][:limit]

    async def move(self, _: Any) -> dict[str, Any]:
        return {}

    async def depth(self, _: Queue) -> int:
        return 0

    async def publish(self, _: Exchange, __: str, event: Event) -> None:
        self.published.append(event)


def reconciler(kind: type[AnyReconciler], everything: Any, patience: Patience = PATIENCE) -> AnyReconciler:
    """Return a reconciler that uses one fake for all its ports."""
    return kind(
        board=Board(),
        jobs=everything,
        runs=everything,
        graders=everything,
        broker=everything,
        policy=RetryPolicy(),
        lease=timedelta(seconds=1),
        tickets=Tickets(b"key"),
        patience=patience,
    )


async def test_a_lost_job_is_found_although_a_run_is_always_being_published() -> None:
    sweeper = reconciler(Reconciler, busy := Busy(), Patience(second_look=0.0, busy=0.2))
    for _ in range(3):
        await sweeper._find_lost(BACKLOG)  # noqa: SLF001 - a whole sweep makes many more queries
    assert busy.published == []

    async def is_found() -> bool:
        await sweeper._find_lost(BACKLOG)  # noqa: SLF001
        return bool(busy.published)

    await until(is_found)
    assert [event.job_id for event in busy.published] == ["job-of-old"]


class Deep(Busy):
    """A store that counts its counting queries, and a broker with a deep queue."""

    queries = 0

    async def unpublished(self, _: datetime, *, limit: int) -> list[Any]:
        return [][:limit]

    async def count_queued(self, _: str, __: JobClass, *, unless_of: Sequence[str] = ()) -> int:
        self.queries += 1
        return DEEP + 1 - len(unless_of)

    async def depth(self, _: Queue) -> int:
        return DEEP + 1


async def test_a_course_with_a_deep_queue_is_counted_rarely() -> None:
    sweeper = reconciler(Reconciler, deep := Deep())
    for _ in range(3):
        await sweeper._find_lost(BACKLOG)  # noqa: SLF001
    assert deep.queries == 1

    sweeper.patience = Patience(busy=0.0)
    await sweeper._find_lost(BACKLOG)  # noqa: SLF001
    assert deep.queries == 2
    assert deep.published == []


class Slow(Reconciler):
    """A reconciler whose thorough sweeps each report a duration of an hour."""

    thorough: asyncio.Semaphore

    async def sweep(self) -> None:
        pass

    async def sweep_thoroughly(self) -> float:
        self.thorough.release()
        return HOUR


async def test_a_long_sweep_does_not_delay_the_next_one_for_long() -> None:
    sweeper = reconciler(Slow, None, Patience(longest_rest=0.05))
    sweeper.thorough = asyncio.Semaphore(0)
    sweeping = asyncio.create_task(sweeper.run(interval=0.001))
    try:
        async with asyncio.timeout(TEST_PATIENCE):
            for _ in range(3):
                await sweeper.thorough.acquire()
    finally:
        sweeping.cancel()

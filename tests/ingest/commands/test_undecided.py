"""The way from a stored delivery to its decision: turns, leases, and deliveries without room."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from harness import until

from broadway.domain.webhook import Delivery, DeliveryState, Push
from broadway.ingest.commands.undecided import DECIDE_GRACE, LEAST_AT_ONCE, UndecidedDeliveries
from broadway.ingest.commands.waiting_deliveries import WaitingDeliveries
from broadway.ports import StoreError
from broadway.runtime import metrics
from broadway.service import background

AT_ONCE = 2
ROOM = 4  # deliveries of a course
NOW = datetime(2026, 9, 1, tzinfo=UTC)


class Stored(dict[str, Delivery]):
    """The deliveries of several processes, by id."""

    async def claim(self, delivery: Delivery, *, before: datetime, until: datetime) -> bool:
        due_at = self[delivery.id].due_at
        if due_at is None or due_at > before:
            return False
        self[delivery.id] = replace(self[delivery.id], due_at=until)
        return True

    async def undecided(self, now: datetime, *, limit: int, without: Sequence[str] = ()) -> list[Delivery]:
        due = [each for each in self.values() if each.due_at and each.due_at <= now]
        return [each for each in due if each.course not in without][:limit]


class Process:
    """A process that decides deliveries when the test lets it, at the test's time."""

    def __init__(self, stored: Stored, *, at_once: int = AT_ONCE) -> None:
        self.stored = stored
        self.now = NOW
        self.decided: list[str] = []
        self.present = self.most_at_once = 0
        self.may_decide = asyncio.Event()
        self.problem: Exception | None = None
        waiting = WaitingDeliveries(most_of_course=ROOM)
        self.line = UndecidedDeliveries(stored, self.decide, waiting=waiting, at_once=at_once, clock=lambda: self.now)

    def receive(self, student: str) -> asyncio.Future[Delivery | None] | None:
        """Store a delivery and hand it over."""
        due_at = self.line.due_at("cs", self.now, received_at=self.now)
        push = Push("v1", repository=f"cs/{student}")
        kept = Delivery(student, "cs", "git", "mp1", student, self.now, DeliveryState.RECEIVED, push, due_at=due_at)
        self.stored[kept.id] = kept
        return self.line.hand_over(kept)

    async def decide(self, delivery: Delivery) -> Delivery:
        self.present += 1
        self.most_at_once = max(self.most_at_once, self.present)
        await self.may_decide.wait()
        self.present -= 1
        if self.problem:
            raise self.problem
        self.decided.append(delivery.id)
        self.stored[delivery.id] = replace(delivery, state=DeliveryState.ACCEPTED, due_at=None)
        return self.stored[delivery.id]


def repairs() -> float:
    return metrics.REPAIRS.labels(metrics.Repair.DELIVERY)._value.get()  # noqa: SLF001 - there is no public reader


def waiting() -> float:
    return metrics.WEBHOOK_UNDECIDED._value.get()  # noqa: SLF001 - there is no public reader


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
async def process(stored: Stored) -> AsyncIterator[Process]:
    process = Process(stored)
    async with background(process.line.run(), process.line.look_around()):
        yield process


async def test_a_limited_number_is_decided_at_once_and_all_are_decided(process: Process) -> None:
    coming = [process.receive(f"s{number}") for number in range(ROOM)]
    await until(lambda: process.present == AT_ONCE)
    assert waiting() == ROOM
    process.may_decide.set()
    decided = await asyncio.gather(*(each for each in coming if each))

    assert [each and each.state for each in decided] == [DeliveryState.ACCEPTED] * ROOM
    assert waiting() == 0
    assert (process.decided, process.most_at_once) == ([f"s{number}" for number in range(ROOM)], AT_ONCE)


async def test_fewer_decisions_begin_while_deliveries_are_being_stored(stored: Stored) -> None:
    process = Process(stored, at_once=4)
    async with background(process.line.run()):
        with process.line.arriving(), process.line.arriving():
            for number in range(ROOM):
                process.receive(f"s{number}")
            await until(lambda: process.present == LEAST_AT_ONCE)
            process.may_decide.set()
            await until(lambda: len(process.decided) == ROOM)
        assert process.most_at_once == LEAST_AT_ONCE
        process.may_decide.clear()
        for number in range(ROOM):
            process.receive(f"t{number}")
        await until(lambda: process.present == ROOM)
        process.may_decide.set()


async def test_a_delivery_that_arrives_again_shares_the_coming_decision(process: Process) -> None:
    coming = process.receive("ada")
    assert coming
    assert process.line.hand_over(process.stored["ada"]) is coming
    process.may_decide.set()
    await coming
    assert process.decided == ["ada"]


async def test_a_delivery_without_room_is_due_at_once_and_decided_when_there_is_room(process: Process) -> None:
    all_of_them = [f"s{number}" for number in range(ROOM + 3)]
    coming = [process.receive(student) for student in all_of_them]
    assert [each is None for each in coming] == [False] * ROOM + [True] * 3
    assert process.stored["s0"].due_at == NOW + DECIDE_GRACE
    assert {process.stored[student].due_at for student in all_of_them[ROOM:]} == {NOW}

    before = repairs()
    process.may_decide.set()
    await until(lambda: len(process.decided) == len(all_of_them))
    assert sorted(process.decided) == all_of_them
    assert repairs() == before, "none was lost"


@pytest.mark.parametrize("problem", [StoreError("away"), ValueError("a bug")])
async def test_a_delivery_that_cannot_be_decided_stays_due_and_another_process_decides_it(
    process: Process, stored: Stored, problem: Exception
) -> None:
    process.problem = problem
    process.may_decide.set()
    coming = process.receive("ada")
    assert coming
    assert await coming is None

    other = Process(stored)
    other.may_decide.set()
    other.now = NOW + DECIDE_GRACE
    before = repairs()
    async with background(other.line.run()):
        await other.line.sweep()
        await until(lambda: other.decided == ["ada"])
        await until(lambda: repairs() == before + 1)


async def test_one_of_two_processes_decides_a_lost_delivery(stored: Stored) -> None:
    first, second = Process(stored), Process(stored)
    first.receive("ada")  # and it ends before it decides anything
    second.now = third_now = NOW + DECIDE_GRACE
    third = Process(stored)
    third.now = third_now
    for each in (second, third):
        each.may_decide.set()
    async with background(second.line.run(), third.line.run()):
        await asyncio.gather(second.line.sweep(), third.line.sweep())
        await until(lambda: second.decided + third.decided == ["ada"])


async def test_a_waiting_delivery_is_not_taken_by_another_process(process: Process, stored: Stored) -> None:
    for number in range(ROOM):
        process.receive(f"s{number}")
    await until(lambda: process.present == AT_ONCE)
    process.now += DECIDE_GRACE / 2
    await process.line.sweep()

    other = Process(stored)
    other.now = NOW + DECIDE_GRACE + timedelta(seconds=1)
    found = await stored.undecided(other.now, limit=9)
    assert [each.id for each in found] == ["s0", "s1"], "whose decisions have begun and take too long"
    other.may_decide.set()
    async with background(other.line.run()):
        await other.line.sweep()
        await until(lambda: len(other.decided) == AT_ONCE)
    process.may_decide.set()
    await until(lambda: len(process.decided) == ROOM)
    assert sorted(other.decided) == ["s0", "s1"]


async def test_a_delivery_that_another_process_has_claimed_is_left_to_it(process: Process, stored: Stored) -> None:
    coming = [process.receive(f"s{number}") for number in range(AT_ONCE + 1)]
    await until(lambda: process.present == AT_ONCE)
    process.now += DECIDE_GRACE + timedelta(seconds=1)
    assert await stored.claim(stored["s2"], before=process.now, until=process.now + DECIDE_GRACE)
    process.may_decide.set()

    assert coming[-1]
    assert await coming[-1] is None
    assert process.decided == ["s0", "s1"]


async def test_a_process_that_ends_finishes_what_it_has_begun_and_leaves_the_rest_to_others(stored: Stored) -> None:
    ending, other = Process(stored), Process(stored)
    async with background(ending.line.run()):
        coming = [ending.receive(f"s{number}") for number in range(ROOM)]
        await until(lambda: ending.present == AT_ONCE)
        ending.may_decide.set()  # the two decisions go on after the end has begun
    assert ending.decided == ["s0", "s1"]
    assert [each and each.done() for each in coming] == [True] * ROOM

    before = repairs()
    other.may_decide.set()
    async with background(other.line.run()):
        await other.line.sweep()
        await until(lambda: other.decided == ["s2", "s3"])
    assert repairs() == before

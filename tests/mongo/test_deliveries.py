"""Undecided deliveries in the store: leases, and documents that cannot be read."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.webhook import Delivery, DeliveryState, Push
from broadway.mongo.store import Store

NOW = datetime(2001, 1, 1, tzinfo=UTC)  # before any delivery of another test
LATER = NOW + timedelta(seconds=10)
Database = AsyncDatabase[dict[str, Any]]


async def keep(store: Store, course: str, name: str, *, due_at: datetime = NOW) -> Delivery:
    push, state = Push("v1", repository="cs/ada"), DeliveryState.RECEIVED
    kept = Delivery(f"{course}-{name}", course, "git", "mp1", name, NOW, state, push, due_at=due_at, body="{}")
    assert await store.deliveries.insert(kept)
    return kept


async def found(store: Store, *courses: str, without: tuple[str, ...] = ()) -> list[str]:
    """Return the ids of the courses' deliveries that are due now."""
    due = await store.deliveries.undecided(NOW, limit=1000, without=without)
    assert all(each.body is None for each in due)
    return [each.id for each in due if each.course in courses]


async def test_one_of_several_claims_of_a_due_delivery_counts(store: Store, course: str) -> None:
    due, early = await keep(store, course, "due"), await keep(store, course, "early", due_at=LATER)
    claims = [store.deliveries.claim(each, before=NOW, until=LATER) for each in (due, due, due, early)]
    assert sorted(await asyncio.gather(*claims)) == [False, False, False, True]

    claimed = await store.deliveries.get(due.id)
    assert claimed == replace(due, due_at=LATER)
    assert await found(store, course) == []


async def test_claims_of_one_batch_are_answered_one_by_one(store: Store, course: str) -> None:
    due = [await keep(store, course, f"d{number}", due_at=NOW if number % 2 else LATER) for number in range(6)]
    shared = store.shared()
    running = asyncio.create_task(shared.run())
    claims = (shared.deliveries.claim(each, before=NOW, until=LATER) for each in due)
    assert await asyncio.gather(*claims) == [False, True] * 3
    running.cancel()


async def test_a_decided_delivery_cannot_be_claimed(store: Store, course: str) -> None:
    kept = await keep(store, course, "decided")
    await store.deliveries.move(kept, state=DeliveryState.REFUSED, due_at=None)
    assert not await store.deliveries.claim(kept, before=LATER, until=LATER)


async def test_deliveries_of_some_courses_are_left_out(store: Store, course: str) -> None:
    other = f"{course}-other"
    first, second = await keep(store, course, "one"), await keep(store, other, "one")
    assert sorted(await found(store, course, other)) == sorted([first.id, second.id])
    assert await found(store, course, other, without=(course,)) == [second.id]


@pytest.mark.parametrize(
    "change",
    [{"state": "of a later version"}, {"push": {"version": "v1", "of a later version": 1}}, {"push": "text"}],
    ids=["state", "field", "type"],
)
async def test_a_delivery_that_cannot_be_read_is_put_off_and_left_out(
    store: Store, database: Database, course: str, change: dict[str, Any]
) -> None:
    strange, usual = await keep(store, course, "strange"), await keep(store, course, "usual")
    await database["hook_delivery"].update_one({"_id": strange.id}, {"$set": change})

    assert await found(store, course) == [usual.id]
    document = await database["hook_delivery"].find_one({"_id": strange.id})
    assert document
    assert document["due_at"] > LATER
    assert await store.deliveries.get(strange.id) is None
    listed = await store.deliveries.of_hook(course, "git", before=None, limit=9)
    assert [each.id for each in listed] == [usual.id]


async def test_a_field_of_a_later_version_is_not_read(store: Store, database: Database, course: str) -> None:
    kept = await keep(store, course, "later")
    await database["hook_delivery"].update_one({"_id": kept.id}, {"$set": {"field_of_a_later_version": 1}})
    assert await store.deliveries.get(kept.id) == kept

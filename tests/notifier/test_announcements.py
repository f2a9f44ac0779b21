"""Published grades and regrades that are ready reach endpoints, though their process announces nothing itself."""

from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

from callback_world import World
from pymongo.asynchronous.database import AsyncDatabase
from receivers import Receiver

from broadway.domain.grade_book import MadeFrom, Published, Version
from broadway.domain.regrade import Regrade, RegradeOrder
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.runtime.clock import now


async def test_a_publication_is_announced_once(
    world: World, receiver: Receiver, database: AsyncDatabase[dict[str, Any]]
) -> None:
    endpoint = await world.endpoint(receiver.port)
    at = now()
    assert await world.store.grades.books.point(Published(world.course, "mp1", 1, at, "prof", 0, 30, announce_at=at))
    world.clock.catch_up()
    for _ in range(2):
        await world.notifier(receiver.port).step()
    (request,) = receiver.requests
    payload = request.verified(endpoint.secret)
    assert (payload["type"], payload["data"]["version"], payload["data"]["by"]) == ("grades.published", 1, "prof")
    stored = await database["grade_book_published"].find_one({"_id": f"{world.course}/mp1"})
    assert stored is not None
    assert stored["announce_at"] is None


async def test_publications_shortly_after_each_other_are_all_announced(world: World, receiver: Receiver) -> None:
    endpoint, books = await world.endpoint(receiver.port), world.store.grades.books
    at = now()
    for number in range(1, 5):
        assert await books.add(Version(world.course, "mp1", number, number - 1, MadeFrom.DRAFT, (), 0, at))
        moved = Published(world.course, "mp1", number, at, "prof", number - 1, 30, announce_at=at)
        assert await books.point(moved)
        if number == 1:
            await books.announced(moved)
    world.clock.catch_up()
    for _ in range(2):
        await world.notifier(receiver.port).step()
    payloads = [each.verified(endpoint.secret) for each in receiver.requests]
    assert sorted(each["data"]["version"] for each in payloads) == [2, 3, 4]


async def test_a_regrade_that_is_ready_is_announced_once(world: World, receiver: Receiver) -> None:
    endpoint = await world.endpoint(receiver.port)
    at, identity = datetime.now(UTC), token_hex(12)
    regrade = Regrade(
        *(identity, world.course, "mp1", RegradeOrder(Select.ALL), {}, "", at),
        state=RegradeState.READY,
        ready_at=at,
        announce_at=at,
    )
    assert await world.store.grades.regrades.add(regrade)
    world.clock.catch_up()
    for _ in range(2):
        await world.notifier(receiver.port).step()
    (request,) = receiver.requests
    payload = request.verified(endpoint.secret)
    assert (payload["type"], payload["data"]["regrade"]) == ("regrade.ready", identity)

"""What the store knows of graders that a gateway asks about."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from secrets import token_hex
from typing import Any

import pytest

from broadway.messages.events import GraderHeartbeat, GraderMode
from broadway.mongo.store import Store
from broadway.mongo.workers import Attached

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def attached(pool: str, **more: Any) -> Attached:
    given: dict[str, Any] = {"alive": True, "over_socket": False, "extended": False, **more}
    return Attached(
        id=token_hex(4),
        hostname="h",
        last_seen=NOW,
        registered_at=NOW,
        pool=pool,
        session="s",
        gateway="api:1",
        **given,
    )


def beat(pool: str, **more: Any) -> GraderHeartbeat:
    return GraderHeartbeat(grader_id=token_hex(4), hostname="h", pool=pool, slots=2, sent_at=NOW, **more)


@pytest.mark.parametrize("extended", [False, True])
async def test_a_grader_behind_a_gateway_knows_our_stages_if_it_is_ours(store: Store, extended: bool) -> None:
    pool = token_hex(4)
    await store.workers.register(attached(pool, extended=extended))
    assert await store.workers.is_any_extended(pool) is extended


async def test_a_dead_one_and_those_of_other_pools_do_not_count(store: Store) -> None:
    pool = token_hex(4)
    await store.workers.register(attached(pool, extended=True, alive=False))
    await store.workers.beat([beat(pool, leaving=True), beat(token_hex(4))], now=datetime.now(UTC))
    assert not await store.workers.is_any_extended(pool)


async def test_one_at_the_broker_is_ours_even_while_it_takes_no_jobs(store: Store) -> None:
    pool = token_hex(4)
    await store.workers.beat([beat(pool, paused="the disk is full")], now=datetime.now(UTC))
    assert await store.workers.is_any_extended(pool)


async def test_of_graders_that_join_with_one_id_at_once_each_is_told_what_is_wanted(store: Store) -> None:
    for _ in range(20):
        name = token_hex(4)
        join = partial(store.workers.join, name, hostname="h", pool="default", slots=1, now=datetime.now(UTC))
        orders = await asyncio.gather(*(join() for _ in range(8)))

        assert {(order.grader_id, order.mode, order.revision) for order in orders} == {(name, GraderMode.ONLINE, 0)}


async def test_of_orders_to_an_unknown_grader_at_once_each_counts_once(store: Store) -> None:
    for _ in range(20):
        name = token_hex(4)
        revoke = partial(store.workers.order, name, {"mode": GraderMode.REVOKED.value}, anyone=True)
        documents = await asyncio.gather(*(revoke() for _ in range(8)))

        assert {document["_id"] for document in documents if document} == {name}
        assert all(documents), "none is unknown"
        assert (await store.workers.orders([name]))[name].revision == 8

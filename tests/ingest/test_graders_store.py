"""What the store knows of graders that a gateway asks about."""

from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import pytest

from broadway.domain.grader import Grader
from broadway.messages.events import GraderHeartbeat
from broadway.mongo.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def attached(pool: str, **more: Any) -> Grader:
    given: dict[str, Any] = {"alive": True, "over_socket": False, "extended": False, **more}
    return Grader(
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
    await store.graders.register(attached(pool, extended=extended))
    assert await store.graders.is_any_extended(pool) is extended


async def test_a_dead_one_and_those_of_other_pools_do_not_count(store: Store) -> None:
    pool = token_hex(4)
    await store.graders.register(attached(pool, extended=True, alive=False))
    await store.graders.beat([beat(pool, leaving=True), beat(token_hex(4))], now=datetime.now(UTC))
    assert not await store.graders.is_any_extended(pool)


async def test_one_at_the_broker_is_ours_even_while_it_takes_no_jobs(store: Store) -> None:
    pool = token_hex(4)
    await store.graders.beat([beat(pool, paused="the disk is full")], now=datetime.now(UTC))
    assert await store.graders.is_any_extended(pool)

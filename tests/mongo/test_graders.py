"""Graders in the store, as gateways and operators read and change them."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from secrets import token_hex
from typing import Any

import pytest

from broadway.domain.abilities import (
    ABILITIES,
    OF_THE_FIRST,
    OF_THE_ORIGINALS,
    TTY_KEY,
    UNTRUSTED,
    abilities_of,
)
from broadway.domain.grader import Grader, GraderMode, StandingOrder
from broadway.messages.events import GraderHeartbeat
from broadway.mongo.graders import PROOFLESS
from broadway.mongo.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def attached(pool: str, **more: Any) -> Grader:
    given: dict[str, Any] = {"alive": True, "over_socket": False, "extended": False, "session": "s", **more}
    return Grader(
        id=token_hex(4),
        hostname="h",
        last_seen=NOW,
        registered_at=NOW,
        pool=pool,
        gateway="api:1",
        **given,
    )


def beat(pool: str, **more: Any) -> GraderHeartbeat:
    return GraderHeartbeat(grader_id=token_hex(4), hostname="h", pool=pool, slots=2, sent_at=NOW, **more)


@pytest.mark.parametrize(
    ("grader", "abilities"),
    [
        (attached("p"), OF_THE_ORIGINALS),
        (attached("p", extended=True), OF_THE_FIRST),
        (attached("p", extended=True, abilities=(UNTRUSTED, TTY_KEY)), (UNTRUSTED, TTY_KEY)),
    ],
    ids=["of the original", "of an earlier version", "of this version"],
)
async def test_a_grader_behind_a_gateway_has_the_abilities_of_its_kind(
    store: Store, grader: Grader, abilities: tuple[str, ...]
) -> None:
    await store.graders.register(grader)
    stored = await store.graders.get(grader.id)
    assert stored is not None
    assert abilities_of(stored) == abilities


@pytest.mark.parametrize(("reported", "abilities"), [([], OF_THE_FIRST), (list(ABILITIES), ABILITIES)])
async def test_a_grader_at_the_broker_reports_its_abilities(
    store: Store, reported: list[str], abilities: tuple[str, ...]
) -> None:
    heartbeat = beat("default", abilities=reported)
    await store.graders.beat([heartbeat], now=datetime.now(UTC))
    stored = await store.graders.get(heartbeat.grader_id)
    assert stored is not None
    assert abilities_of(stored) == abilities


async def test_concurrent_joins_with_one_id_all_return_the_order(store: Store) -> None:
    for _ in range(20):
        name = token_hex(4)
        join = partial(store.graders.join, name, hostname="h", pool="default", slots=1, now=datetime.now(UTC))
        orders = await asyncio.gather(*(join() for _ in range(8)))

        assert orders == [StandingOrder()] * 8


async def test_concurrent_orders_to_an_unknown_grader_each_count_once(store: Store) -> None:
    for _ in range(20):
        name = token_hex(4)
        graders = await asyncio.gather(*(store.graders.revoke(name, "stolen") for _ in range(8)))

        assert {(grader.id, grader.is_revoked) for grader in graders} == {(name, True)}
        assert (await store.graders.orders([name]))[name].revision == 8


async def test_one_of_several_concurrent_registrations_with_one_id_is_accepted(store: Store) -> None:
    for _ in range(20):
        rivals = [attached(token_hex(4), session=session) for session in "abcdefgh"]
        name = rivals[0].id
        taken = await asyncio.gather(*(store.graders.register(replace(rival, id=name)) for rival in rivals))

        assert taken.count(True) == 1
        known = await store.graders.get(name)
        assert known
        assert known.session == rivals[taken.index(True)].session


async def test_a_registration_that_is_concurrent_with_an_order_is_accepted(store: Store) -> None:
    for _ in range(20):
        grader = attached(token_hex(4))
        is_taken, ordered = await asyncio.gather(
            store.graders.register(grader), store.graders.revoke(grader.id, "stolen")
        )
        known = await store.graders.get(grader.id)

        assert is_taken
        assert known
        assert (known.alive, known.order) == (True, ordered.order)


async def test_no_concurrent_order_readmits_a_revoked_grader(store: Store) -> None:
    for _ in range(20):
        name = token_hex(4)
        await store.graders.join(name, hostname="h", pool="default", slots=1, now=NOW)
        orders = [store.graders.set_mode(name, GraderMode.PAUSED, "disk"), store.graders.set_slots(name, 2)]
        await asyncio.gather(store.graders.revoke(name, "stolen"), *orders)
        known = await store.graders.get(name)

        assert known
        assert known.is_revoked
        assert await store.graders.set_mode(name, GraderMode.ONLINE, "") is None
        readmitted = await store.graders.set_mode(name, GraderMode.ONLINE, "", is_revoked=True)
        assert readmitted
        assert not readmitted.is_revoked


async def test_an_order_does_not_create_an_unknown_grader(store: Store) -> None:
    name = token_hex(4)
    assert await store.graders.set_mode(name, GraderMode.PAUSED, "") is None
    assert await store.graders.set_slots(name, 2) is None
    assert await store.graders.get(name) is None


async def test_a_grader_is_read_as_it_was_stored(store: Store) -> None:
    given = attached("p1", over_socket=True, extended=True, runtime="runc")
    await store.graders.register(given)
    await store.graders.hand_out(given.id, "j1")
    await store.graders.set_account(given.id, "grader-1")
    await store.graders.count_starts({given.id: 2})
    ordered = await store.graders.set_slots(given.id, 3)

    expected = replace(
        given,
        slots=1,
        reported_jobs=("j1",),
        jobs_processed=2,
        broker_user="grader-1",
        order=StandingOrder(revision=1, slots=3),
    )
    assert ordered == await store.graders.get(given.id) == expected


async def test_a_grader_that_has_only_joined_was_never_seen(store: Store) -> None:
    name = token_hex(4)
    await store.graders.join(name, hostname="h", pool="p1", slots=4, now=NOW)

    assert await store.graders.get(name) == Grader(
        id=name, hostname="h", pool="p1", slots=4, own_slots=4, joined_at=NOW
    )


async def test_silent_graders_are_found_behind_gateways_but_not_at_the_broker(store: Store) -> None:
    behind, at_the_broker = attached("p1"), beat("p1")
    await store.graders.register(behind)
    await store.graders.beat([at_the_broker], now=NOW)

    silent = {grader.id for grader in await store.graders.silent_behind_gateways(NOW)}
    assert behind.id in silent
    assert at_the_broker.grader_id not in silent
    before = await store.graders.silent_behind_gateways(NOW - timedelta(seconds=1))
    assert behind.id not in {grader.id for grader in before}


async def test_reports_need_proofs_from_the_first_join_of_a_grader_that_makes_them(store: Store) -> None:
    name, join = token_hex(4), partial(store.graders.join, hostname="h", pool="default", slots=1)
    assert not await store.graders.must_prove(name, NOW)
    await store.graders.claim(name, secret="hash", pools=None, join_token="")
    await join(name, now=NOW, proves=True)
    assert await store.graders.must_prove(name, NOW)
    await join(name, now=NOW, proves=False)
    assert not await store.graders.must_prove(name, NOW), "its host went back to an earlier version"


async def test_reports_of_a_graders_earlier_version_may_still_arrive_after_its_upgrade(store: Store) -> None:
    name, join = token_hex(4), partial(store.graders.join, hostname="h", pool="default", slots=1)
    beat = GraderHeartbeat(grader_id=name, hostname="h", pool="default", slots=1, sent_at=NOW)
    await store.graders.beat([beat], now=NOW)
    await join(name, now=NOW, proves=True)
    await join(name, now=NOW + PROOFLESS / 2, proves=True)

    assert not await store.graders.must_prove(name, NOW + PROOFLESS / 2)
    assert await store.graders.must_prove(name, NOW + PROOFLESS)


async def joined(store: Store, pool: str, slots: int) -> str:
    name = token_hex(4)
    await store.graders.join(name, hostname="h", pool=pool, slots=slots, now=NOW)
    return name


async def test_a_heartbeat_counts_only_for_the_pool_that_its_grader_joined(store: Store) -> None:
    pool, foreign = token_hex(4), token_hex(4)
    name = await joined(store, pool, 2)
    beats = [beat(foreign).model_copy(update={"grader_id": name}), beat(pool).model_copy(update={"grader_id": name})]

    assert await store.graders.beat(beats, now=NOW) == beats[1:]
    assert await store.graders.beat(beats[:1], now=NOW) == []

    known = await store.graders.get(name)
    assert known
    assert (known.pool, known.slots, known.alive) == (pool, 2, True)


async def test_a_heartbeat_counts_for_at_most_the_slots_that_its_grader_may_have(store: Store) -> None:
    pool = token_hex(4)
    name = await joined(store, pool, 2)
    greedy = beat(pool).model_copy(update={"grader_id": name, "slots": 512})

    for ordered, counted in ((None, 2), (4, 4), (1, 1)):
        await store.graders.set_slots(name, ordered)
        (own,) = await store.graders.beat([greedy], now=NOW)
        known = await store.graders.get(name)
        assert known
        assert (own.slots, known.slots) == (counted, counted)


async def test_a_grader_that_never_joined_is_believed(store: Store) -> None:
    unknown = beat(token_hex(4))
    assert await store.graders.beat([unknown], now=NOW) == [unknown]
    moved = unknown.model_copy(update={"pool": token_hex(4), "slots": 5})
    assert await store.graders.beat([moved], now=NOW) == [moved]

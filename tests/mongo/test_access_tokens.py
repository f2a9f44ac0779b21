"""Access tokens and graders' secrets in the store, while many use them at the same moment."""

import asyncio
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest

from broadway.domain.access import AccessToken, SecretPrefix, TokenKind, digest, new_secret, token_id
from broadway.domain.pool import Pool
from broadway.mongo.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def kept(store: Store, **more: Any) -> tuple[AccessToken, str]:
    secret = new_secret(SecretPrefix.JOIN)
    token = AccessToken(token_id(secret), TokenKind.JOIN, digest(secret), NOW, **more)
    await store.access_tokens.add(token)
    return token, secret


async def test_a_token_is_found_by_its_secret_and_read_as_it_was_stored(store: Store) -> None:
    token, secret = await kept(store, name="rack 3", pools=("gpu", "default"), uses_left=2, expires_at=NOW)
    assert await store.access_tokens.find(secret, TokenKind.JOIN) == token
    assert await store.access_tokens.get(token.id, TokenKind.JOIN) == token
    assert await store.access_tokens.find(secret[:-1], TokenKind.JOIN) is None


async def test_no_more_graders_than_uses_are_admitted_at_once(store: Store) -> None:
    token, _ = await kept(store, uses_left=3)
    used = await asyncio.gather(*(store.access_tokens.use(token.id, f"g{n}", NOW) for n in range(12)))
    assert used.count(True) == 3
    stored = await store.access_tokens.get(token.id, TokenKind.JOIN)
    assert stored is not None
    assert (stored.uses_left, len(stored.users)) == (0, 3)


async def test_a_repeated_use_by_one_grader_is_counted_once(store: Store) -> None:
    token, _ = await kept(store, uses_left=2)
    assert all(await asyncio.gather(*(store.access_tokens.use(token.id, "g1", NOW) for _ in range(8))))
    stored = await store.access_tokens.get(token.id, TokenKind.JOIN)
    assert stored is not None
    assert (stored.uses_left, stored.users) == (1, ("g1",))
    await store.access_tokens.give_back(token.id, "g1")
    await store.access_tokens.give_back(token.id, "g1")
    assert [await store.access_tokens.use(token.id, f"g{n}", NOW) for n in (2, 3, 4)] == [True, True, False]


@pytest.mark.parametrize("uses", [None, 5])
async def test_an_expired_or_revoked_token_admits_no_grader(store: Store, uses: int | None) -> None:
    token, _ = await kept(store, uses_left=uses, expires_at=NOW + timedelta(hours=1))
    assert await store.access_tokens.use(token.id, "g1", NOW)
    assert not await store.access_tokens.use(token.id, "g1", NOW + timedelta(hours=1))
    assert await store.access_tokens.revoke(token.id, TokenKind.JOIN, NOW)
    assert not await store.access_tokens.use(token.id, "g2", NOW)
    assert not await store.access_tokens.revoke("unknown", TokenKind.JOIN, NOW)


async def test_one_of_many_secrets_wins_an_id(store: Store) -> None:
    for _ in range(10):
        name, secrets = token_hex(4), [digest(token_hex(8)) for _ in range(8)]
        claims = (store.graders.claim(name, secret=each, pools=("gpu",), join_token="t") for each in secrets)
        won = await asyncio.gather(*claims)
        grader = await store.graders.get(name)
        assert grader is not None
        assert [secret for secret, is_winner in zip(secrets, won, strict=True) if is_winner] == [grader.secret]
        assert (grader.pools, grader.join_token) == (("gpu",), "t")


async def test_a_forgotten_secret_can_be_replaced_and_no_other(store: Store) -> None:
    name, first, second = token_hex(4), digest("first"), digest("second")
    assert await store.graders.claim(name, secret=first, pools=None, join_token="")
    assert not await store.graders.claim(name, secret=second, pools=None, join_token="")
    await store.graders.forget_secret(name)
    assert await store.graders.claim(name, secret=second, pools=None, join_token="")
    assert await store.graders.forget_secret(token_hex(4)) is None


async def test_a_pool_keeps_the_setting_of_its_operator(store: Store) -> None:
    name = token_hex(4)
    assert not await store.pools.admits_originals(name)
    await store.pools.put(Pool(name, original_graders=True, reason="a test", changed_at=NOW))
    assert await store.pools.admits_originals(name)
    await store.pools.put(Pool(name, original_graders=False, reason="an order", changed_at=NOW))
    await store.pools.put_first(Pool(name, original_graders=True, reason="too late", changed_at=NOW))
    assert not await store.pools.admits_originals(name)
    assert [pool.reason for pool in await store.pools.all() if pool.id == name] == ["an order"]

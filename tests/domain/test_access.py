"""Secrets that the system makes, and tokens that it hands out."""

from datetime import UTC, datetime, timedelta

import pytest

from broadway.domain.access import (
    AccessToken,
    SecretPrefix,
    TokenKind,
    digest,
    is_of_digest,
    is_secret,
    new_secret,
    token_id,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("prefix", SecretPrefix)
def test_a_new_secret_is_long_and_has_the_form_of_its_kind_only(prefix: SecretPrefix) -> None:
    secret = new_secret(prefix)
    assert [each for each in SecretPrefix if is_secret(secret, each)] == [prefix]
    assert len(secret) >= len(prefix) + 43
    assert new_secret(prefix) != secret


@pytest.mark.parametrize("text", ["", "bwg_", "bwg_short", f"bwg_{'a' * 101}", f"bwg_{'a' * 40}\n", f"xbwg_{'a' * 40}"])
def test_other_texts_are_no_secrets(text: str) -> None:
    assert not is_secret(text, SecretPrefix.GRADER)


def test_only_the_secret_itself_has_its_digest() -> None:
    secret = new_secret(SecretPrefix.JOIN)
    assert is_of_digest(secret, digest(secret))
    assert not is_of_digest(secret[:-1], digest(secret))
    assert not is_of_digest("", "")
    assert secret[4:20] not in token_id(secret)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, None),
        ({"expires_at": NOW + timedelta(seconds=1)}, None),
        ({"expires_at": NOW}, "has expired"),
        ({"revoked_at": NOW - timedelta(days=1), "expires_at": NOW}, "has been revoked"),
    ],
)
def test_a_token_is_valid_until_it_expires_or_is_revoked(more: dict[str, datetime], reason: str | None) -> None:
    token = AccessToken("id", TokenKind.JOIN, "digest", NOW, **more)  # type: ignore[arg-type] - times only
    assert token.why_invalid(NOW) == reason


def test_a_token_without_pools_admits_to_all() -> None:
    limited = AccessToken("id", TokenKind.JOIN, "digest", NOW, pools=("gpu",))
    assert [limited.admits_to(pool) for pool in ("gpu", "default")] == [True, False]
    assert AccessToken("id", TokenKind.JOIN, "digest", NOW).admits_to("default")

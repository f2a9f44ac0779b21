"""Join tokens: operators make, list and revoke them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from broadway.domain.access import AccessToken, SecretPrefix, TokenKind, digest, new_secret, token_id

log = structlog.get_logger(__name__)

MAX_LISTED = 1000  # join tokens, latest first


class NoTokenError(LookupError):
    """There is no token of that id."""


class NewTokens(Protocol):
    """Tokens that can be added."""

    async def add(self, token: AccessToken) -> None:
        """Store a new token."""


class StoredTokens(NewTokens, Protocol):
    """Stored access tokens."""

    async def get(self, identity: str, kind: TokenKind) -> AccessToken | None:
        """Return a token by its public id, or None."""

    async def of_kind(self, kind: TokenKind, *, limit: int) -> list[AccessToken]:
        """Return the tokens of a kind, latest first."""

    async def revoke(self, identity: str, kind: TokenKind, now: datetime) -> bool:
        """Revoke a token; return False if it does not exist. Revoking it again changes nothing."""


@dataclass(frozen=True, slots=True)
class JoinTokens:
    """The operators' requests about join tokens."""

    tokens: StoredTokens

    async def create(
        self, *, name: str, pools: Sequence[str] | None, uses: int | None, valid_for: timedelta | None
    ) -> tuple[AccessToken, str]:
        """Make a join token; return it with its secret, which is not stored. None stands for no limit."""
        secret, now = new_secret(SecretPrefix.JOIN), datetime.now(UTC)
        token = AccessToken(
            id=token_id(secret),
            kind=TokenKind.JOIN,
            digest=digest(secret),
            created_at=now,
            name=name,
            pools=None if pools is None else tuple(dict.fromkeys(pools)),
            uses_left=uses,
            expires_at=None if valid_for is None else now + valid_for,
        )
        await self.tokens.add(token)
        log.info("join token made", token=token.id, pools=pools, uses=uses, expires_at=token.expires_at)
        return token, secret

    async def all(self) -> list[AccessToken]:
        """Return the join tokens, revoked ones too, latest first."""
        return await self.tokens.of_kind(TokenKind.JOIN, limit=MAX_LISTED)

    async def one(self, identity: str) -> AccessToken:
        """Return a join token.

        Raises:
            NoTokenError: There is none of that id.
        """
        token = await self.tokens.get(identity, TokenKind.JOIN)
        if token is None:
            raise NoTokenError(_no_such(identity))
        return token

    async def revoke(self, identity: str) -> None:
        """Revoke a join token: no further grader joins with it; those that have joined keep their secrets.

        Raises:
            NoTokenError: There is none of that id.
        """
        if not await self.tokens.revoke(identity, TokenKind.JOIN, datetime.now(UTC)):
            raise NoTokenError(_no_such(identity))
        log.warning("join token revoked", token=identity)


def _no_such(identity: str) -> str:
    return f"there is no join token {identity}; `broadway grader token list` shows their ids"

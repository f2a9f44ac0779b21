"""Admission of graders: the credentials with which they join, and with which they speak to the gateway afterwards.

A grader makes a secret of its own, keeps it on its disk, and sends it with its first join. From then on its id belongs
to this secret. Graders without a secret are admitted with the cluster token to pools whose switch is on.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from broadway.domain.access import AccessToken, SecretPrefix, TokenKind, digest, is_of_digest, is_secret
from broadway.domain.course import same_secret
from broadway.domain.grader import Grader, RevokedError
from broadway.lifecycle.stores import GradersById

log = structlog.get_logger(__name__)

_INVALID = "invalid token"


class CredentialError(Exception):
    """A token or secret that is wrong."""


class AdmissionError(Exception):
    """A grader that may not do this with its credentials; the text gives the reason, and the remedy."""


class ClaimedGraders(GradersById, Protocol):
    """Stored graders, with the hashes of their secrets."""

    async def claim(self, grader_id: str, *, secret: str, pools: tuple[str, ...] | None, join_token: str) -> bool:
        """Store the hash of a grader's secret unless it has a secret; return whether this is its secret now."""


class UsedTokens(Protocol):
    """Stored join tokens, with the graders that have used them."""

    async def find(self, secret: str, kind: TokenKind) -> AccessToken | None:
        """Return the token with a secret, valid or not, or None."""

    async def use(self, identity: str, user: str, now: datetime) -> bool:
        """Count a use of a token, once for each user; return False if it is invalid now, or has no uses left."""

    async def give_back(self, identity: str, user: str) -> None:
        """Take back the use of a user, if it was counted."""


class PoolSwitches(Protocol):
    """The switches of pools for graders without secrets."""

    async def admits_originals(self, pool: str) -> bool:
        """Return whether a pool admits graders without secrets; the answer may be a second behind the store."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A grader that asks to join, with credentials that are valid so far.

    Args:
        id: Its id.
        grader: The grader as stored; None if the id is unknown.
        secret: The hash of the secret that it has sent; empty if it has sent none.
        has_proof: True if this is the secret of the stored grader.
        token: Its join token; None if it has used the cluster token or its secret.
    """

    id: str
    grader: Grader | None
    secret: str = ""
    has_proof: bool = False
    token: AccessToken | None = None

    @property
    def may_be_running(self) -> bool:
        """True if a grader of this id, without a secret, may be running elsewhere."""
        return self.grader is not None and self.grader.alive and self.grader.secret is None


@dataclass(frozen=True, slots=True)
class Admission:
    """Checks the credentials of graders.

    Args:
        graders: The stored graders.
        tokens: The stored join tokens.
        pools: The pools' switches.
        cluster_token: The token with which any new grader may join, and with which graders without secrets speak.
    """

    graders: ClaimedGraders
    tokens: UsedTokens
    pools: PoolSwitches
    cluster_token: str

    async def recognize(self, grader_id: str, *, bearer: str, secret: str | None) -> Candidate:
        """Return the candidate with these credentials: a bearer token, and the secret of its own that it has sent.

        Raises:
            CredentialError: Neither the token nor the secret is valid.
            AdmissionError: The secret has not the form of one.
        """
        grader = await self.graders.get(grader_id)
        if grader and grader.secret and any(is_of_digest(own, grader.secret) for own in (secret or "", bearer)):
            return Candidate(grader_id, grader, grader.secret, has_proof=True)
        token = None
        if not same_secret(bearer, self.cluster_token):
            is_known_form = is_secret(bearer, SecretPrefix.JOIN)
            token = await self.tokens.find(bearer, TokenKind.JOIN) if is_known_form else None
            if token is None:
                raise CredentialError(_INVALID)
        if secret and not is_secret(secret, SecretPrefix.GRADER):
            raise AdmissionError(f"a grader's secret should be {SecretPrefix.GRADER} and 32 to 100 random characters")
        return Candidate(grader_id, grader, digest(secret) if secret else "", token=token)

    async def admit(self, candidate: Candidate, pool: str) -> bool:
        """Admit a candidate to a pool; return True if the grader has a secret from now on, which it must use.

        Raises:
            AdmissionError: Its token or its secret does not admit it.
            RevokedError: The grader has been revoked.
        """
        grader, now = candidate.grader, datetime.now(UTC)
        if grader is not None and grader.is_revoked:
            raise RevokedError(revoked(grader.id))
        if grader is not None and grader.has_secret:
            if not candidate.has_proof:
                raise AdmissionError(_has_secret(grader.id))
            _demand_pool(grader, pool)
            return True
        if candidate.may_be_running and not (grader and grader.has_grace(now) and candidate.token is None):
            raise AdmissionError(
                f"a grader without a secret runs as {candidate.id}: choose another id, or stop it and wait until it "
                "counts as gone"
            )
        if candidate.token is not None:
            _demand_valid(candidate.token, pool, now)
        if not candidate.secret:
            await self._demand_switch(grader, candidate, pool, now)
            return False
        await self._claim(candidate, now)
        return True

    async def authenticate(self, grader_id: str, bearer: str) -> Grader | None:
        """Return the grader that may speak with a token: its own secret, or the cluster token if it has no secret.

        None stands for an unknown grader, which has the cluster token.

        Raises:
            CredentialError: It may not speak with this token.
        """
        grader = await self.graders.get(grader_id)
        if grader is not None and grader.has_secret:
            if not is_of_digest(bearer, grader.secret or ""):
                if same_secret(bearer, self.cluster_token):
                    log.warning("grader refused: its id belongs to a grader with a secret", grader=grader_id)
                raise CredentialError(_INVALID)
            return grader
        if not same_secret(bearer, self.cluster_token):
            raise CredentialError(_INVALID)
        return grader

    async def demand_pool(self, grader: Grader | None, pool: str) -> None:
        """Return if an authenticated grader may take jobs of a pool; None stands for an unknown grader.

        Raises:
            AdmissionError: It may not.
        """
        if grader is not None and grader.has_secret:
            _demand_pool(grader, pool)
        elif not (grader and grader.has_grace(datetime.now(UTC))) and not await self.pools.admits_originals(pool):
            raise AdmissionError(_switched_off(pool))

    async def _demand_switch(self, grader: Grader | None, candidate: Candidate, pool: str, now: datetime) -> None:
        """Return if a grader of an earlier version may join, which sends no secret."""
        if candidate.token is not None:
            raise AdmissionError("a join token is for graders that send a secret of their own: upgrade this one")
        if not (grader and grader.has_grace(now)) and not await self.pools.admits_originals(pool):
            raise AdmissionError(f"{_switched_off(pool)}; better, upgrade the grader, and it has a secret")

    async def _claim(self, candidate: Candidate, now: datetime) -> None:
        """Give the id of a candidate to its secret, and count the use of its join token."""
        token, pools = candidate.token, candidate.token.pools if candidate.token else None
        if token and not await self.tokens.use(token.id, candidate.id, now):
            raise AdmissionError("this join token has no uses left: ask an operator for a new one")
        by = token.id if token else ""
        if await self.graders.claim(candidate.id, secret=candidate.secret, pools=pools, join_token=by):
            log.info("grader has its own secret now", grader=candidate.id, join_token=by or "cluster token")
            return
        winner = await self.graders.get(candidate.id)
        if token and winner and winner.join_token != token.id:
            await self.tokens.give_back(token.id, candidate.id)
        raise AdmissionError(_has_secret(candidate.id))


def revoked(grader_id: str) -> str:
    """Return the text of the refusal of a revoked grader."""
    return f"grader {grader_id} has been revoked; `broadway grader readmit {grader_id}` lets it in"


def _demand_valid(token: AccessToken, pool: str, now: datetime) -> None:
    if why := token.why_invalid(now):
        raise AdmissionError(f"this join token {why}: ask an operator for a new one")
    if not token.admits_to(pool):
        raise AdmissionError(f"this join token admits to {_names(token.pools)} only, not to pool {pool}")


def _demand_pool(grader: Grader, pool: str) -> None:
    if not grader.may_join(pool):
        raise AdmissionError(
            f"grader {grader.id} was admitted to {_names(grader.pools)} only, not to pool {pool}; for another pool, "
            f"`broadway grader forget-secret {grader.id}`, and let it join with a join token for that pool"
        )


def _names(pools: tuple[str, ...] | None) -> str:
    return f"pool {', '.join(pools or ())}"


def _has_secret(grader_id: str) -> str:
    return (
        f"grader {grader_id} has another secret: start it with the work directory of its first start, or choose "
        f"another id; if that secret is lost, `broadway grader forget-secret {grader_id}` lets it join anew"
    )


def _switched_off(pool: str) -> str:
    """Return the text of a refusal, which fits into the close frame of a WebSocket."""
    return f"pool {pool} refuses graders without a secret: `broadway pool set {pool} --original-graders on`"

"""Principals, who speak to the API, and the tokens that the system makes and hands out. Pure.

A token is a random secret, of which only the hash is stored.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from secrets import token_urlsafe

MAX_USES = 10_000  # of one token
MAX_NAME = 100  # characters

_RANDOM = r"[A-Za-z0-9_-]{32,100}"
_ID_DIGITS = 24


class TokenKind(StrEnum):
    """The right that an access token gives."""

    COURSE = "staff"  # of a course
    QUERY = "query"  # of a course, to read states
    STUDENT = "student"
    JOIN = "join"
    LINK = "link"  # of a student or an operator, to sign in to the pages; the API takes no link


class Kind(StrEnum):
    """The kind of a principal. A route names the kinds that it takes. The kind with more rights comes first."""

    OPERATOR = "operator"
    COURSE = "staff"
    QUERY = "query"
    STUDENT = "student"
    JOIN = "join"  # a host that may join as a grader
    GRADER = "grader"
    METRICS = "metrics"  # a program that watches, such as a scaler
    ANYONE = "anyone"  # no token is needed


class SecretPrefix(StrEnum):
    """The first characters of a secret, by which people and programs recognize its kind."""

    GRADER = "bwg_"
    JOIN = "bwj_"
    COURSE = "bwc_"
    STUDENT = "bws_"
    LINK = "bwl_"


def new_secret(prefix: SecretPrefix) -> str:
    """Return a new random secret of a kind."""
    return f"{prefix}{token_urlsafe(32)}"


def is_secret(text: str, prefix: SecretPrefix) -> bool:
    """Return whether a text has the form of a secret of a kind."""
    return re.fullmatch(prefix + _RANDOM, text) is not None


def digest(secret: str) -> str:
    """Return the stored form of a random secret: its SHA-256, in hex. Random secrets need no salt."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def is_handed_out(text: str) -> bool:
    """Return whether a text may be the secret of an access token."""
    return any(is_secret(text, prefix) for prefix in (SecretPrefix.COURSE, SecretPrefix.STUDENT, SecretPrefix.JOIN))


def is_of_digest(secret: str, stored: str) -> bool:
    """Return whether a secret has the stored digest, in constant time; no secret has an empty one."""
    return bool(stored) and hmac.compare_digest(digest(secret), stored)


def token_id(secret: str) -> str:
    """Return the public id of an access token: the first digits of its digest, which do not reveal the token."""
    return digest(secret)[:_ID_DIGITS]


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token that an operator or a course has handed out.

    Args:
        id: Its public id, for lists and for revoking it.
        kind: The right that it gives.
        digest: The hash of its secret.
        created_at: The time at which it was made.
        created_by: The name of its creator.
        name: A note of its creator, such as a person or a rack of hosts.
        course: The course that it belongs to; empty for one of the cluster.
        student: The student that it belongs to; empty for any other token.
        pools: The pools that it admits to; None for all pools.
        uses_left: The number of times that it may still be used; None for any number.
        users: Names of those who have used it; only a token with a limited number of uses counts them.
        expires_at: The time from which on it is invalid; None for no limit.
        revoked_at: The time at which it was revoked; None while it is valid.
    """

    id: str
    kind: TokenKind
    digest: str = field(repr=False)
    created_at: datetime
    created_by: str = ""
    name: str = ""
    course: str = ""
    student: str = ""
    pools: tuple[str, ...] | None = None
    uses_left: int | None = None
    users: tuple[str, ...] = ()
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def why_invalid(self, now: datetime) -> str | None:
        """Return the reason for which the token is invalid at a moment, or None; uses are counted elsewhere."""
        if self.revoked_at is not None:
            return "has been revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "has expired"
        return None

    def is_valid(self, now: datetime) -> bool:
        """Return whether the token is valid at a moment; uses are counted elsewhere."""
        return self.why_invalid(now) is None

    def admits_to(self, pool: str) -> bool:
        """Return whether it admits to a pool."""
        return self.pools is None or pool in self.pools


@dataclass(frozen=True, slots=True)
class Principal:
    """The person, program or grader that a request's credential names."""

    kind: Kind
    name: str
    course: str | None = None
    student: str | None = None
    grader: str | None = None
    expires_at: datetime | None = None

    @classmethod
    def of(cls, token: AccessToken) -> "Principal":
        """Return the principal of a valid token."""
        kind = Kind(token.kind.value)
        return cls(kind, token.name, token.course or None, token.student or None, expires_at=token.expires_at)


ANYONE = Principal(Kind.ANYONE, "")

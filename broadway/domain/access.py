"""Principals, who speak to the API, and the tokens that the API has handed out. Pure.

A generated secret is random and begins with the prefix of its kind. The store keeps only its SHA-256 hash, by which it
is found; a salt would add nothing to a random secret of this length.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hmac import compare_digest
from secrets import token_urlsafe

_RANDOM = 32  # bytes of a generated secret
_ID = 24  # hex digits of a hash by which a token is named


class Kind(StrEnum):
    """The kind of a principal, which decides its rights."""

    COURSE = "staff"  # of a course
    QUERY = "query"  # a reader of a course's states
    STUDENT = "student"
    OPERATOR = "operator"
    JOIN = "join"  # a host that may join as a grader
    GRADER = "grader"
    ANYONE = "anyone"  # no token is needed


PREFIXES = {
    Kind.COURSE: "bwc_",
    Kind.QUERY: "bwc_",
    Kind.STUDENT: "bws_",
    Kind.JOIN: "bwj_",
    Kind.GRADER: "bwg_",
}


def new_secret(kind: Kind) -> str:
    """Return a new random secret of a kind."""
    return PREFIXES[kind] + token_urlsafe(_RANDOM)


def is_generated(secret: str) -> bool:
    """Return whether a secret has the prefix of one that the API has handed out."""
    return secret.startswith(tuple(PREFIXES.values()))


def digest(secret: str) -> str:
    """Return the hash of a generated secret, as the store keeps it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def token_id(secret: str) -> str:
    """Return the id by which a generated token is found, listed and revoked; it does not reveal the secret."""
    return digest(secret)[:_ID]


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token that the API has handed out.

    ``name`` is given by its creator. ``student`` is set for students' tokens. ``uses_left`` and ``pools`` limit join
    tokens; None means no limit.
    """

    id: str
    digest: str
    kind: Kind
    name: str
    created_at: datetime
    course: str | None = None
    student: str | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    created_by: str = ""
    uses_left: int | None = None
    pools: tuple[str, ...] | None = None

    def is_secret(self, secret: str) -> bool:
        """Return whether a text is this token's secret, in constant time."""
        return compare_digest(digest(secret), self.digest)

    def is_valid(self, now: datetime) -> bool:
        """Return whether the token is neither revoked nor expired nor used up."""
        is_over = self.expires_at is not None and self.expires_at <= now
        return self.revoked_at is None and not is_over and self.uses_left != 0


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
        return cls(token.kind, token.name, token.course, token.student, expires_at=token.expires_at)


ANYONE = Principal(Kind.ANYONE, "")

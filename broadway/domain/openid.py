"""People who sign in through an OpenID Connect provider: their names and roles, by rules over their claims. Pure."""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from broadway.domain.names import COURSE_ID
from broadway.domain.roster import MAX_STUDENT_NAME

EMAIL = "email"
MOST_RULES = 1000
MOST_VALUES = 1000  # of one claim

_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")  # halves of characters have no bytes
_NO_NAME = "the {claim} that the provider sent is no name: expected 1 to 200 characters"


class PersonError(ValueError):
    """The claims give no name that the rules accept; the text is for the person and the operators."""


@dataclass(frozen=True, slots=True)
class Match:
    """A value that a claim must have, or contain if it is a list; an empty claim stands for the person's name."""

    claim: str
    value: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the match in a text, ``name`` or ``claim=value``.

        Raises:
            ValueError: A part is empty.
        """
        first, is_claim, rest = text.strip().partition("=")
        found = cls(first.strip(), rest.strip()) if is_claim else cls("", first.strip())
        if not found.value or (is_claim and not found.claim):
            raise ValueError(f"{text[:100]!r}: expected a name or CLAIM=VALUE")
        return found

    def fits(self, name: str, claims: Mapping[str, Any]) -> bool:
        """Return whether a person with claims fits."""
        if not self.claim:
            return hmac.compare_digest(name.encode(), self.value.encode())
        found = claims.get(self.claim)
        return self.value in found[:MOST_VALUES] if isinstance(found, list) else found == self.value


def matches_of(text: str) -> tuple[Match, ...]:
    """Return the matches in a list that is separated by commas.

    Raises:
        ValueError: A part is malformed; the text names it.
    """
    return tuple(Match.of(part) for part in _parts(text))


def staff_of(text: str) -> tuple[tuple[str, Match], ...]:
    """Return the matches of courses' staff in a list such as ``cs101:ana,cs101:groups=cs101-staff``.

    Raises:
        ValueError: A part is malformed; the text names it.
    """
    found = []
    for part in _parts(text):
        course, _, match = part.partition(":")
        if not re.fullmatch(COURSE_ID, course.strip()) or not match.strip():
            raise ValueError(f"{part[:100]!r}: expected COURSE:NAME or COURSE:CLAIM=VALUE")
        found.append((course.strip(), Match.of(match)))
    return tuple(found)


def _parts(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > MOST_RULES:
        raise ValueError(f"expected at most {MOST_RULES} entries, separated by commas")
    return parts


@dataclass(frozen=True, slots=True)
class Person:
    """A verified person: the name, whether it is an operator's, and the courses whose staff it belongs to."""

    name: str
    is_operator: bool
    staff: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PersonRules:
    """The rules from claims to people.

    Args:
        claim: The claim that has the name.
        domain: The only accepted domain of names that are addresses, which is removed from them; empty for any name.
        operators: The people who are operators.
        staff: The people who are staff of courses.
        may_be_unverified: Whether an address counts that the provider does not call verified.
    """

    claim: str
    domain: str = ""
    operators: tuple[Match, ...] = ()
    staff: tuple[tuple[str, Match], ...] = ()
    may_be_unverified: bool = False

    @property
    def claims(self) -> frozenset[str]:
        """The claims that the rules read."""
        own = {self.claim, *((EMAIL, "email_verified") if self.claim == EMAIL else ())}
        return frozenset(own | {each.claim for each in (*self.operators, *(match for _, match in self.staff))} - {""})

    def person(self, claims: Mapping[str, Any]) -> Person:
        """Return the person with some claims.

        Raises:
            PersonError: The claims give no acceptable name.
        """
        name = self._name(claims)
        staff = dict.fromkeys(course for course, match in self.staff if match.fits(name, claims))
        return Person(name, any(match.fits(name, claims) for match in self.operators), tuple(staff))

    def _name(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self.claim)
        if not isinstance(name, str) or not name.strip():
            raise PersonError(f"the provider sent no {self.claim}, by which this server knows people")
        if not _PRINTABLE.fullmatch(name):
            raise PersonError(_NO_NAME.format(claim=self.claim))
        if self.claim == EMAIL and not self.may_be_unverified and claims.get("email_verified") not in (True, "true"):
            raise PersonError(f"the provider does not say that it has verified the address {name[:100]}")
        if self.domain:
            name = self._without_domain(name)
        if len(name) > MAX_STUDENT_NAME:
            raise PersonError(_NO_NAME.format(claim=self.claim))
        return name

    def _without_domain(self, name: str) -> str:
        local, _, domain = name.strip().lower().rpartition("@")
        if not local or domain != self.domain.lower():
            raise PersonError(f"{name[:100]} does not belong to {self.domain}: sign in there with another account")
        return local


@dataclass(frozen=True, slots=True)
class Attempt:
    """The values of one sign-in, which all follow from a secret that only the browser has."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def of(cls, secret: str) -> Self:
        """Return the values of a secret. None of them, and no two together, lead to another one."""
        return cls(*(_derived(secret, purpose) for purpose in ("state", "nonce", "verifier")))

    def has_state(self, state: str) -> bool:
        """Return whether a state is that of the attempt, in constant time."""
        return hmac.compare_digest(self.state.encode(), state.encode("utf-8", "surrogateescape"))


def _derived(secret: str, purpose: str) -> str:
    value = hmac.digest(secret.encode("utf-8", "surrogateescape"), purpose.encode(), hashlib.sha256)
    return urlsafe_b64encode(value).rstrip(b"=").decode()

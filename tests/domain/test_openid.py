"""From claims to people."""

from typing import Any

import pytest
from pydantic import ValidationError

from broadway.domain.openid import Attempt, Match, Person, PersonError, PersonRules, matches_of, staff_of
from broadway.settings.openid import OpenIdSettings

RULES = PersonRules("email", "example.edu")


def address_of(name: str, **more: Any) -> dict[str, Any]:
    return {"email": f"{name}@example.edu", "email_verified": True, **more}


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"email": "ada@example.edu.evil.example", "email_verified": True}, "does not belong to example.edu"),
        ({"email": "ada@evil.example@example.edux", "email_verified": True}, "does not belong to example.edu"),
        ({"email": "ada", "email_verified": True}, "does not belong to example.edu"),
        ({"email": "@example.edu", "email_verified": True}, "does not belong to example.edu"),
        ({"email": ["ada@example.edu"], "email_verified": True}, "sent no email"),
        ({"email": " ", "email_verified": True}, "sent no email"),
        ({}, "sent no email"),
        (address_of("ada", email_verified=None), "has verified"),
        (address_of("ada", email_verified=1) | {"email_verified": "yes"}, "has verified"),
        (address_of("a\x00da"), "is no name"),
        (address_of("a\ud800"), "is no name"),
        (address_of("a\ud800") | {"email_verified": False}, "is no name"),
        (address_of("x" * 201), "is no name"),
    ],
    ids=[
        "other",
        "longer",
        "none",
        "nobody",
        "list",
        "blank",
        "nothing",
        "silent",
        "word",
        "NUL",
        "half",
        "half-unverified",
        "long",
    ],
)
def test_claims_without_an_acceptable_name_are_refused(claims: dict[str, Any], words: str) -> None:
    with pytest.raises(PersonError, match=words):
        RULES.person(claims)


def test_a_domain_is_removed_in_any_case_and_other_claims_stay_as_they_are() -> None:
    assert RULES.person(address_of("Ada.B")).name == "ada.b"
    assert PersonRules("preferred_username").person({"preferred_username": "Ada"}).name == "Ada"
    assert PersonRules("email", may_be_unverified=True).person({"email": "Ada@x"}).name == "Ada@x"


def test_operators_and_staff_are_known_by_name_or_by_a_claim() -> None:
    staff = staff_of("cs101:ana, cs101:groups=tutors,cs225:groups=tutors")
    rules = PersonRules("sub", operators=matches_of("root, role=admin"), staff=staff)
    assert rules.person({"sub": "root"}) == Person("root", is_operator=True, staff=())
    assert rules.person({"sub": "x", "role": "admin"}).is_operator
    assert not rules.person({"sub": "x", "role": "administrator"}).is_operator
    assert not rules.person({"sub": "admin"}).is_operator
    assert rules.person({"sub": "ana"}).staff == ("cs101",)
    assert rules.person({"sub": "x", "groups": ["a", "tutors"]}).staff == ("cs101", "cs225")
    assert rules.person({"sub": "x", "groups": {"tutors": True}}).staff == ()
    assert rules.claims == {"sub", "role", "groups"}


@pytest.mark.parametrize("text", ["=x", "role=", "a,=x"])
def test_a_malformed_match_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected a name or CLAIM=VALUE"):
        matches_of(text)


@pytest.mark.parametrize("text", ["cs101", "cs101:", ":ana", "c s:ana", "cs101:role="])
def test_a_malformed_entry_of_staff_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        staff_of(text)


def test_the_values_of_an_attempt_follow_from_its_secret_and_not_from_each_other() -> None:
    first, again, other = Attempt.of("a"), Attempt.of("a"), Attempt.of("b")
    assert first == again
    assert len({first.state, first.nonce, first.verifier, other.state, other.nonce, other.verifier}) == 6
    assert 43 <= len(first.verifier) <= 128  # RFC 7636
    assert first.has_state(again.state)
    assert not first.has_state(other.state)
    assert not first.has_state("\udcff")


def test_a_match_without_a_claim_is_a_name() -> None:
    assert Match.of(" ana ").fits("ana", {})
    assert not Match.of("ana").fits("Ana", {"sub": "ana"})


GIVEN = {"issuer": "https://login.example.edu", "client_id": "x", "url": "https://grading.example.edu/"}


def test_complete_settings_are_accepted() -> None:
    assert OpenIdSettings.model_validate(GIVEN).url == "https://grading.example.edu"
    assert OpenIdSettings.model_validate(GIVEN | {"issuer": "http://localhost:9400"}).issuer == "http://localhost:9400"


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "http://login.example.edu"},
        {"issuer": "login.example.edu"},
        {"issuer": "https://login.example.edu/?tenant=1"},
        {"issuer": "https://user:word@login.example.edu"},
        {"client_id": ""},
        {"url": ""},
        {"url": "http://grading.example.edu"},
        {"algorithms": "none"},
        {"algorithms": "RS256,HS256"},
        {"algorithms": ""},
        {"scope": "email"},
        {"leeway": 601},
        {"domain": "example.edu/"},
        {"staff": "ana"},
    ],
    ids=lambda change: " ".join(f"{name} {value}" for name, value in change.items()),
)
def test_settings_that_are_unsafe_or_incomplete_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OpenIdSettings.model_validate(GIVEN | change)

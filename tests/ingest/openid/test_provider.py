"""The check of a provider's answers: descriptions, tokens and claims of one that lies."""

import hashlib
import hmac
import ssl
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from json import dumps
from secrets import token_urlsafe
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from providers import CLIENT, SECRET, Provider

from broadway.domain.openid import Attempt
from broadway.ingest.commands.openid import ProviderUnavailableError, SignInRefusedError
from broadway.ingest.openid.answers import MAX_ANSWER, Requests
from broadway.ingest.openid.provider import KEPT, KEYS_AGAIN, OpenIdProvider
from broadway.settings.openid import OpenIdSettings

FOREVER = 10**10
DESCRIPTION = "/.well-known/openid-configuration"


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Provider]:
    async with Provider().running() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.begin()
    running.asked.clear()
    return running


class Checker:
    """Our side of sign-ins at a provider, at a time that a test sets."""

    def __init__(self, provider: Provider, **more: Any) -> None:
        self.time = 1000.0
        given = {
            "issuer": provider.issuer,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "url": "https://pages",
            **more,
        }
        requests = Requests(ssl.create_default_context())
        self.ours = OpenIdProvider(OpenIdSettings.model_validate(given), requests, clock=lambda: self.time)
        self.provider = provider

    async def sign_in(self, *, issuer: str = "") -> dict[str, Any]:
        attempt = Attempt.of(token_urlsafe(32))
        code = self.provider.grant(await self.ours.address(attempt))
        return dict(await self.ours.claims(code, attempt, issuer=issuer))


@pytest.fixture
def checker(provider: Provider) -> Checker:
    return Checker(provider)


async def test_a_person_of_an_honest_provider_is_known(checker: Checker) -> None:
    checker.provider.claims = {"email": "ada@example.edu"}
    assert (await checker.sign_in())["email"] == "ada@example.edu"


def encoded(part: bytes) -> str:
    return urlsafe_b64encode(part).rstrip(b"=").decode()


def unsigned(claims: dict[str, Any]) -> str:
    return f"{encoded(dumps({'alg': 'none', 'typ': 'JWT'}).encode())}.{encoded(dumps(claims).encode())}."


def signed_by_another_key(provider: Provider, claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": provider.key.kid}, claims, RSAKey.generate_key(2048))


def signed_by_the_public_key(provider: Provider, claims: dict[str, Any]) -> str:
    header = {"alg": "HS256", "kid": provider.key.kid}
    text = f"{encoded(dumps(header).encode())}.{encoded(dumps(claims).encode())}"
    return f"{text}.{encoded(hmac.digest(provider.key.as_pem(private=False), text.encode(), hashlib.sha256))}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"iss": "https://evil.example"}, "iss has not the value"),
        ({"aud": "another"}, "aud has not the value"),
        ({"aud": [CLIENT, "another"]}, "azp has not the value"),
        ({"azp": "another"}, "azp has not the value"),
        ({"nonce": "another"}, "belongs to another sign-in"),
        ({"nonce": None}, "belongs to another sign-in"),
        ({"exp": 1000}, "the clocks of the provider and of this server differ"),
        ({"exp": "soon"}, "the clocks"),
        ({"iat": FOREVER, "exp": FOREVER + 1}, "the clocks of the provider and of this server differ"),
        ({"nbf": FOREVER}, "the clocks of the provider and of this server differ"),
        ({"at_hash": "wrong"}, "at_hash has not the value"),
        ({"sub": None}, "sub has not the value"),
    ],
    ids=[
        "issuer", "audience", "audiences", "party", "nonce", "no nonce", "expired", "no time", "future", "not yet",
        "hash", "no person",
    ],
)  # fmt: skip
async def test_a_token_with_a_wrong_claim_is_refused(checker: Checker, change: dict[str, Any], words: str) -> None:
    checker.provider.in_token = lambda claims: {k: v for k, v in (claims | change).items() if v is not None}
    with pytest.raises(SignInRefusedError, match=words):
        await checker.sign_in()


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        (lambda _, claims: unsigned(claims), "signed by none"),
        (signed_by_another_key, "its signature is wrong"),
        (signed_by_the_public_key, "signed by HS256"),
        (lambda provider, claims: f"{provider.signed(claims)[:-4]}AAAA", "its signature is wrong"),
        (lambda *_: "no token", "it has no signature"),
        (lambda *_: "", "it has no signature"),
        (lambda *_: "e30." * 40_000, "is longer than"),
        (lambda _, claims: jwt.encode({"alg": "RS256", "kid": "?"}, claims, RSAKey.generate_key(2048)), "is unknown"),
    ],
    ids=["none", "another key", "public key as secret", "changed", "text", "empty", "long", "unknown key"],
)
async def test_a_token_without_a_right_signature_is_refused(checker: Checker, sign: Any, words: str) -> None:
    provider = checker.provider
    provider.sign = lambda claims: sign(provider, claims)
    with pytest.raises(SignInRefusedError, match=words):
        await checker.sign_in()


async def test_a_clock_that_differs_a_little_is_accepted(checker: Checker) -> None:
    checker.provider.in_token = lambda claims: claims | {"iat": claims["iat"] + 30, "nbf": claims["iat"] + 30}
    await checker.sign_in()
    checker.provider.in_token = lambda claims: claims | {"exp": claims["iat"] - 30}
    await checker.sign_in()


async def test_a_code_is_good_once_and_for_the_browser_that_asked(checker: Checker) -> None:
    mine, other = Attempt.of("mine"), Attempt.of("other")
    code = checker.provider.grant(await checker.ours.address(mine))
    await checker.ours.claims(code, mine, issuer="")
    with pytest.raises(SignInRefusedError, match="used already"):
        await checker.ours.claims(code, mine, issuer="")
    code = checker.provider.grant(await checker.ours.address(other))
    with pytest.raises(SignInRefusedError, match="used already"):
        await checker.ours.claims(code, mine, issuer="")
    for wrong in ("", "x" * 5000):
        with pytest.raises(SignInRefusedError, match="no code"):
            await checker.ours.claims(wrong, mine, issuer="")


async def test_an_answer_of_another_issuer_costs_no_request(checker: Checker) -> None:
    with pytest.raises(SignInRefusedError, match="another provider"):
        await checker.sign_in(issuer="https://evil.example")
    assert "/token" not in checker.provider.asked
    await checker.sign_in(issuer=checker.provider.issuer)
    named = {"authorization_response_iss_parameter_supported": True}
    checker.provider.in_description = lambda fields: fields | named
    with pytest.raises(SignInRefusedError, match="another provider"):
        await Checker(checker.provider).sign_in()  # a provider that always names itself has not


async def test_claims_that_are_asked_for_apart_belong_to_the_same_person(provider: Provider) -> None:
    provider.more = {"sub": "1", "email": "ada@example.edu", "iss": "https://evil.example"}
    found = await Checker(provider).sign_in()
    assert (found["email"], found["iss"]) == ("ada@example.edu", provider.issuer)
    provider.more = {"sub": "2", "email": "ada@example.edu"}
    with pytest.raises(SignInRefusedError, match="about different people"):
        await Checker(provider).sign_in()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda fields: fields | {"issuer": "https://evil.example"}, "issuer is 'https://evil.example', expected"),
        (lambda fields: fields | {"token_endpoint": "ftp://localhost/token"}, "token_endpoint: expected an address"),
        (lambda fields: fields | {"jwks_uri": "http://["}, "jwks_uri: expected an address"),
        (lambda fields: fields | {"userinfo_endpoint": 7}, "userinfo_endpoint: expected an address"),
        (lambda fields: fields | {"code_challenge_methods_supported": ["plain"]}, "expected S256"),
        (lambda fields: fields | {"id_token_signing_alg_values_supported": ["HS256"]}, "--oidc-algorithms allows"),
        (lambda fields: fields | {"padding": "x" * MAX_ANSWER}, "an answer of more than"),
        (lambda _: {}, "issuer is ''"),
    ],
    ids=["issuer", "endpoint", "keys", "person", "PKCE", "algorithms", "size", "empty"],
)
async def test_a_description_that_cannot_be_used_says_why(checker: Checker, change: Any, words: str) -> None:
    checker.provider.in_description = change
    with pytest.raises(ProviderUnavailableError, match=words):
        await checker.sign_in()


async def test_a_failure_is_shared_for_a_moment_and_forgotten_then(checker: Checker) -> None:
    checker.provider.is_down = True
    for _ in range(5):
        with pytest.raises(ProviderUnavailableError, match="no JSON"):
            await checker.ours.address(Attempt.of("x"))
    assert checker.provider.asked == {DESCRIPTION: 1}
    checker.provider.is_down = False
    checker.time += 4
    await checker.sign_in()


async def test_description_and_keys_are_read_once_an_hour(checker: Checker) -> None:
    for _ in range(3):
        await checker.sign_in()
    assert (checker.provider.asked[DESCRIPTION], checker.provider.asked["/keys"]) == (1, 1)
    checker.time += KEPT + 1
    await checker.sign_in()
    assert (checker.provider.asked[DESCRIPTION], checker.provider.asked["/keys"]) == (2, 2)


async def test_a_new_key_is_found_and_unknown_ones_cost_few_reads(checker: Checker) -> None:
    await checker.sign_in()
    provider, old = checker.provider, checker.provider.key
    provider.key = RSAKey.generate_key(2048, parameters={"kid": "next"})
    with pytest.raises(SignInRefusedError, match="its key is unknown"):
        await checker.sign_in()  # the keys were read a moment ago
    checker.time += KEYS_AGAIN + 1
    await checker.sign_in()
    assert provider.asked["/keys"] == 2
    provider.sign = lambda claims: jwt.encode({"alg": "RS256", "kid": "stranger"}, claims, old)
    for _ in range(3):
        with pytest.raises(SignInRefusedError, match="its key is unknown"):
            await checker.sign_in()
    assert provider.asked["/keys"] == 2


async def test_a_provider_that_does_not_know_this_server_is_no_fault_of_the_person(checker: Checker) -> None:
    checker.provider.in_description = lambda fields: fields | {"token_endpoint": f"{checker.provider.issuer}/keys"}
    with pytest.raises(ProviderUnavailableError):  # POST is not allowed there, and the answer is no JSON
        await checker.sign_in()

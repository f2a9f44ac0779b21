"""One OpenID Connect provider: its description and keys, kept for a while, and the code flow with PKCE."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.discovery import get_well_known_url
from joserfc.jwk import Key

from broadway.domain.openid import Attempt, PersonRules
from broadway.ingest.commands.openid import ProviderUnavailableError, SignInRefusedError
from broadway.ingest.openid.answers import Answered, Requests
from broadway.ingest.openid.tokens import Expected, UnknownKeyError, check_claims, keys_of, signed_claims
from broadway.settings.openid import OpenIdSettings

log = structlog.get_logger(__name__)

BACK = "/ui/openid/back"
KEPT = 3600.0  # seconds for which the description and the keys count
AGAIN = 3.0  # seconds between two tries after a failure
KEYS_AGAIN = 30.0  # seconds between two reads of keys for tokens with an unknown one
MAX_CODE = 4096  # characters
_OK = 200
_CLIENT_WRONG = "invalid_client", "unauthorized_client"


@dataclass(frozen=True, slots=True)
class Description:
    """A provider's description of itself and its keys, with the time of their read."""

    fields: Mapping[str, Any]
    keys: Sequence[Key]
    at: float

    def text(self, name: str) -> str:
        """Return a field, or an empty text."""
        found = self.fields.get(name)
        return found if isinstance(found, str) else ""

    def names(self, name: str) -> Sequence[str]:
        """Return a list of names, or an empty one."""
        found = self.fields.get(name)
        return [str(each) for each in found[:100]] if isinstance(found, list) else ()


class OpenIdProvider:
    """A provider by its settings. Concurrent sign-ins share one read of its description, and one failure of it."""

    def __init__(
        self,
        settings: OpenIdSettings,
        requests: Requests,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._requests = requests
        self._clock, self._wall = clock, wall
        self._lock = asyncio.Lock()
        self._known: Description | None = None
        self._failure: tuple[float, ProviderUnavailableError] | None = None

    async def address(self, attempt: Attempt) -> str:
        """Return the address at the provider where a person signs in.

        Raises:
            ProviderUnavailableError: The provider's description cannot be had.
        """
        known = await self._description()
        address: str = prepare_grant_uri(
            known.text("authorization_endpoint"),
            self._settings.client_id,
            "code",
            redirect_uri=self._redirect,
            scope=self._settings.scope,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return address

    async def claims(self, code: str, attempt: Attempt, *, issuer: str) -> Mapping[str, Any]:
        """Exchange a code for the verified claims of a person. ``issuer`` is the one that the browser has brought.

        Raises:
            SignInRefusedError: The code or the answer is not acceptable.
            ProviderUnavailableError: The provider gives no usable answer.
        """
        known = await self._description()
        is_named = known.fields.get("authorization_response_iss_parameter_supported") is True
        if (issuer or is_named) and issuer != self._settings.issuer:
            raise SignInRefusedError("The answer comes from another provider than the one asked. Sign in again")
        if not code or len(code) > MAX_CODE:
            raise SignInRefusedError("The provider has sent no code. Sign in again")
        answer = await self._exchange(known, code, attempt)
        access_token = str(answer.fields.get("access_token") or "")
        claims = await self._verified(known, str(answer.fields.get("id_token") or ""), attempt, access_token)
        return await self._with_more(known, claims, access_token)

    @property
    def _redirect(self) -> str:
        return f"{self._settings.url}{BACK}"

    async def _exchange(self, known: Description, code: str, attempt: Attempt) -> Answered:
        client = self._settings.client_id
        secret = self._settings.client_secret.get_secret_value() if self._settings.client_secret else ""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "code_verifier": attempt.verifier,
        }
        ways = known.names("token_endpoint_auth_methods_supported") or ("client_secret_basic",)
        login = None
        if secret and "client_secret_basic" in ways:
            login = quote(client, safe=""), quote(secret, safe="")  # RFC 6749, 2.3.1
        else:
            form |= {"client_id": client, **({"client_secret": secret} if secret else {})}
        answer = await self._requests.post(known.text("token_endpoint"), form, login=login)
        if answer.status == _OK:
            return answer
        reason = str(answer.fields.get("error", ""))[:100]
        if reason in _CLIENT_WRONG or answer.status not in range(400, 500):
            raise ProviderUnavailableError(f"{known.text('token_endpoint')}: {answer.status} {reason}")
        log.warning("sign-in refused by the provider", status=answer.status, reason=reason)
        raise SignInRefusedError("The provider refuses this sign-in: it was used already, or is old. Sign in again")

    async def _verified(self, known: Description, token: str, attempt: Attempt, access_token: str) -> dict[str, Any]:
        allowed = self._settings.allowed
        try:
            claims, header = signed_claims(token, known.keys, allowed)
        except UnknownKeyError:
            try:
                claims, header = signed_claims(token, (await self._description(keys_before=known.at)).keys, allowed)
            except UnknownKeyError as error:
                raise SignInRefusedError("The provider's answer is not genuine: its key is unknown") from error
        settings, now = self._settings, int(self._wall())
        check_claims(
            claims,
            header,
            Expected(settings.issuer, settings.client_id, attempt.nonce, access_token, now, settings.leeway),
        )
        return claims

    async def _with_more(self, known: Description, claims: dict[str, Any], access_token: str) -> Mapping[str, Any]:
        """Return claims with those that the provider gives on request only."""
        rules, address = self._settings.rules, known.text("userinfo_endpoint")
        if not address or not access_token or not _missing(rules, claims):
            return claims
        answer = await self._requests.get(address, bearer=access_token)
        if answer.status != _OK:
            raise ProviderUnavailableError(f"{address}: {answer.status}")
        if answer.fields.get("sub") != claims.get("sub"):
            raise SignInRefusedError("The provider's answers are about different people. Sign in again")
        return {**answer.fields, **claims}

    async def _description(self, *, keys_before: float | None = None) -> Description:
        """Return the description, from the last read if that is young enough.

        With ``keys_before``, a read of before that time is repeated, but not more often than every ``KEYS_AGAIN``.

        Raises:
            ProviderUnavailableError: It cannot be had, or is not usable.
        """
        async with self._lock:
            now, known = self._clock(), self._known
            most = KEPT if keys_before is None else KEYS_AGAIN
            if known is not None and (now - known.at < most or (keys_before is not None and known.at > keys_before)):
                return known
            if self._failure is not None and now - self._failure[0] < AGAIN:
                raise ProviderUnavailableError(str(self._failure[1]))
            try:
                self._known = await self._read(now)
            except ProviderUnavailableError as error:
                self._failure = (self._clock(), error)
                raise
            return self._known

    async def _read(self, now: float) -> Description:
        issuer = self._settings.issuer
        url = get_well_known_url(issuer, external=True)
        answer = await self._requests.get(url)
        if answer.status != _OK:
            raise ProviderUnavailableError(f"{url}: {answer.status}")
        found = Description(answer.fields, (), now)
        if problem := self._problem(found):
            raise ProviderUnavailableError(f"{url}: {problem}")
        keys = await self._requests.get(found.text("jwks_uri"))
        if keys.status != _OK:
            raise ProviderUnavailableError(f"{found.text('jwks_uri')}: {keys.status}")
        return Description(answer.fields, keys_of(keys.fields), now)

    def _problem(self, found: Description) -> str:
        """Return why a description cannot be used; empty if it can."""
        issuer = self._settings.issuer
        if found.text("issuer") != issuer:
            return f"issuer is {found.text('issuer')[:200]!r}, expected {issuer!r} as in --oidc-issuer"
        is_local = urlsplit(issuer).scheme == "http"
        more = ("userinfo_endpoint",) if "userinfo_endpoint" in found.fields else ()
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", *more):
            if not _is_address(found.text(name), is_local=is_local):
                return f"{name}: expected an address with https"
        ways = found.names("code_challenge_methods_supported")
        if ways and "S256" not in ways:
            return "code_challenge_methods_supported: expected S256"
        offered = found.names("id_token_signing_alg_values_supported")
        if offered and not set(offered) & set(self._settings.allowed):
            return f"it signs with {', '.join(offered)}, --oidc-algorithms allows {', '.join(self._settings.allowed)}"
        return ""


def _is_address(text: str, *, is_local: bool) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.hostname) and parts.scheme in (("http", "https") if is_local else ("https",))


def _missing(rules: PersonRules, claims: Mapping[str, Any]) -> bool:
    return any(name not in claims for name in rules.claims)

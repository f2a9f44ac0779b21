"""The check of an ID token: its signature, by a key of the provider and an allowed algorithm, and its claims."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from authlib.oidc.core import CodeIDToken
from joserfc import jws, jwt
from joserfc.errors import ClaimError, JoseError
from joserfc.jwk import Key, KeySet

from broadway.ingest.commands.openid import SignInRefusedError

MAX_TOKEN = 64 * 1024  # characters
MOST_KEYS = 50
NOT_GENUINE = "The provider's answer is not genuine"
_OF_TIME = frozenset({"exp", "iat", "nbf"})
_OF_SIGNATURES = frozenset({"RSA", "EC", "OKP"})


class UnknownKeyError(Exception):
    """The provider's known keys have not signed the token."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The values that the claims of a token must have."""

    issuer: str
    client: str
    nonce: str
    access_token: str
    now: int
    leeway: int


def keys_of(fields: Mapping[str, Any]) -> Sequence[Key]:
    """Return the public keys for signatures in a JSON Web Key Set; others are left out."""
    entries = fields.get("keys")
    found = []
    for entry in entries[:MOST_KEYS] if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("kty") not in _OF_SIGNATURES or entry.get("use", "sig") != "sig":
            continue
        try:
            found += KeySet.import_key_set({"keys": [entry]}).keys
        except (JoseError, ValueError, TypeError, KeyError):  # a key of a curve or a size that is not supported
            continue
    return found


def signed_claims(token: str, keys: Sequence[Key], allowed: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the claims and the header of a token that one of the keys has signed.

    Raises:
        SignInRefusedError: The token is malformed, its algorithm is not allowed, or its signature is wrong.
        UnknownKeyError: None of the keys has the token's id of a key.
    """
    header = _header(token)
    if header.get("alg") not in allowed:
        raise SignInRefusedError(f"{NOT_GENUINE}: signed by {str(header.get('alg'))[:20]}, expected one of {allowed}")
    wanted = header.get("kid")
    candidates = [key for key in keys if wanted is None or key.kid == wanted]
    if not candidates:
        raise UnknownKeyError
    for key in candidates:
        try:
            return dict(jwt.decode(token, key, algorithms=list(allowed)).claims), header
        except (JoseError, ValueError, TypeError):
            continue
    raise SignInRefusedError(f"{NOT_GENUINE}: its signature is wrong")


def _header(token: str) -> dict[str, Any]:
    if len(token) > MAX_TOKEN:
        raise SignInRefusedError(f"{NOT_GENUINE}: it is longer than {MAX_TOKEN} characters")
    try:
        return dict(jws.extract_compact(token.encode("ascii")).headers())
    except (JoseError, ValueError, TypeError) as error:
        raise SignInRefusedError(f"{NOT_GENUINE}: it has no signature") from error


def check_claims(claims: dict[str, Any], header: dict[str, Any], expected: Expected) -> None:
    """Return if the claims are those of this sign-in, for this server, and of this moment.

    Raises:
        SignInRefusedError: They are not; the text says whether the clocks are the reason.
    """
    options = {
        "iss": {"essential": True, "value": expected.issuer},
        "aud": {"essential": True, "value": expected.client},
        "nonce": {"essential": True},
    }
    params = {"nonce": expected.nonce, "client_id": expected.client, "access_token": expected.access_token}
    token = CodeIDToken(claims, header, options, params)
    try:
        token.validate(now=expected.now, leeway=expected.leeway)
    except ClaimError as error:
        raise SignInRefusedError(_reason(str(error.claim), expected)) from error
    except (JoseError, ValueError, TypeError) as error:
        raise SignInRefusedError(f"{NOT_GENUINE}: its claims are malformed") from error


def _reason(claim: str, expected: Expected) -> str:
    if claim in _OF_TIME:
        return (
            "The provider's answer is not valid at this time: the clocks of the provider and of this server differ by "
            f"more than {expected.leeway} s, or the answer is old. Sign in again; if that does not help, ask the "
            "operators to check the clock of the server"
        )
    if claim == "nonce":
        return "The provider's answer belongs to another sign-in. Sign in again"
    return f"{NOT_GENUINE}: {claim} has not the value that this server expects"

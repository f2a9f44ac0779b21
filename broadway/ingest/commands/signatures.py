"""Signatures of webhook deliveries: GitHub's and Standard Webhooks', computed over the raw body as it arrives."""

import binascii
import hmac
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import floor

GITHUB = "x-hub-signature-256"
STANDARD = "webhook-signature"
TOLERANCE = 300  # seconds between a delivery's timestamp and this host's clock

_ENCODED = "whsec_"
_SCHEME = "sha256="
_MALFORMED = f"{STANDARD}: expected webhook-id, webhook-timestamp and v1,<base64>"


class SignatureError(ValueError):
    """A delivery whose signature is missing, wrong or too old; the text gives the reason."""


class SignatureCheck:
    """The check of one delivery.

    Args:
        headers: The headers, with lower-case names.
        secrets: The hook's secrets. For Standard Webhooks, a secret that begins with ``whsec_`` is base64.

    Raises:
        SignatureError: No body can have this signature.
    """

    def __init__(self, headers: Mapping[str, str], secrets: Sequence[str]) -> None:
        if not secrets:
            raise SignatureError("the hook has no secret")
        if headers.get(STANDARD):
            self._problem = f"{STANDARD}: No matching signature found"
            self._given, signed = _standard(headers)
            keys = [_key(secret) for secret in secrets]
        elif headers.get(GITHUB):
            self._problem = f"{GITHUB}: is not the signature of this body by a secret of this hook"
            self._given, signed = [_github(headers[GITHUB])], b""
            keys = [secret.encode() for secret in secrets]
        else:
            raise SignatureError(f"not signed: expected the header {GITHUB} or {STANDARD}")
        self._digests = [hmac.new(key, signed, "sha256") for key in keys]

    def update(self, piece: bytes) -> None:
        """Add the next piece of the body."""
        for digest in self._digests:
            digest.update(piece)

    def finish(self) -> None:
        """Return if one of the secrets made the signature of the whole body.

        Raises:
            SignatureError: None of them did.
        """
        made = [digest.digest() for digest in self._digests]
        if not any(hmac.compare_digest(one, given) for one in made for given in self._given):
            raise SignatureError(self._problem)


def _github(signature: str) -> bytes:
    if not signature.startswith(_SCHEME):  # GitHub also sends SHA-1, in another header
        raise SignatureError(f"{GITHUB}: expected {_SCHEME}<hex digits>")
    digits = signature.removeprefix(_SCHEME)
    try:
        return bytes.fromhex(digits) if digits == digits.lower() else b""
    except ValueError:
        return b""


def _standard(
    headers: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> tuple[list[bytes], bytes]:
    """Return the signatures of a delivery, and the text before the body that they sign, too."""
    identity, stamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
    if not identity or not stamp:
        raise SignatureError(f"{STANDARD}: Missing required headers")
    try:
        seconds = floor(float(stamp))
    except (ValueError, OverflowError):
        raise SignatureError(f"{STANDARD}: Invalid Signature Headers") from None
    age = now().timestamp() - seconds
    if abs(age) > TOLERANCE:
        raise SignatureError(f"{STANDARD}: Message timestamp too {'old' if age > 0 else 'new'}")
    try:
        versions = [part.split(",") for part in headers[STANDARD].split(" ")]
        given = [b64decode(signature) for version, signature in versions if version == "v1"]
    except (ValueError, binascii.Error):
        raise SignatureError(_MALFORMED) from None
    return given, f"{identity}.{seconds}.".encode("utf-8", "surrogateescape")


def _key(secret: str) -> bytes:
    """Return the key of a secret for Standard Webhooks; its base64 may lack the padding.

    Raises:
        SignatureError: The secret is no base64.
    """
    if not secret.startswith(_ENCODED):
        return secret.encode()
    try:
        return b64decode(secret.removeprefix(_ENCODED) + "==")
    except (ValueError, binascii.Error):
        raise SignatureError(_MALFORMED) from None

"""Signatures of webhook deliveries: GitHub's and Standard Webhooks', checked over the raw body before it is read."""

from collections.abc import Mapping, Sequence

from gidgethub import ValidationFailure
from gidgethub.sansio import validate_event
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

GITHUB = "x-hub-signature-256"
STANDARD = "webhook-signature"

_ENCODED = "whsec_"


class SignatureError(ValueError):
    """A delivery whose signature is missing, wrong or too old; the text gives the reason."""


def check_signature(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> None:
    """Return if a delivery is signed with one of a hook's secrets.

    Args:
        body: The raw body.
        headers: The headers, with lower-case names.
        secrets: The hook's secrets. For Standard Webhooks, a secret that begins with ``whsec_`` is base64.

    Raises:
        SignatureError: No secret made the signature.
    """
    if not secrets:
        raise SignatureError("the hook has no secret")
    if headers.get(STANDARD):
        problems = [_standard(body, headers, secret) for secret in secrets]
    elif headers.get(GITHUB):
        problems = [_github(body, headers[GITHUB], secret) for secret in secrets]
    else:
        raise SignatureError(f"not signed: expected the header {GITHUB} or {STANDARD}")
    if all(problems):
        raise SignatureError(problems[0] or "")


def _github(body: bytes, signature: str, secret: str) -> str | None:
    """Return the problem with a signature, or None."""
    if not signature.startswith("sha256="):  # the library also accepts SHA-1
        return f"{GITHUB}: expected sha256=<hex digits>"
    try:
        validate_event(body, signature=signature, secret=secret)
    except (ValidationFailure, TypeError):
        return f"{GITHUB}: is not the signature of this body by a secret of this hook"
    return None


def _standard(body: bytes, headers: Mapping[str, str], secret: str) -> str | None:
    try:
        key = secret if secret.startswith(_ENCODED) else secret.encode()
        Webhook(key).verify(body, dict(headers), json_parse=False)
    except WebhookVerificationError as error:
        return f"{STANDARD}: {error}"
    except (ValueError, TypeError):
        return f"{STANDARD}: expected webhook-id, webhook-timestamp and v1,<base64>"
    return None

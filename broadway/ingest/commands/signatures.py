"""Signatures of webhook deliveries: GitHub's and Standard Webhooks', checked over the raw body before it is read."""

from collections.abc import Mapping, Sequence

from gidgethub import ValidationFailure
from gidgethub.sansio import validate_event
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

GITHUB = "x-hub-signature-256"
STANDARD = "webhook-signature"

_ENCODED = "whsec_"


class SignatureError(ValueError):
    """A delivery that is not signed with a secret of its hook, or too long ago; the text says which."""


def check_signature(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> None:
    """Compare a delivery's signature with those of the secrets, any of which may be the one.

    Args:
        body: As it came.
        headers: With lower-case names.
        secrets: As the hook has them. For Standard Webhooks one that begins with ``whsec_`` is base64.

    Raises:
        SignatureError: None fits.
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
    """What is wrong with a signature, if anything."""
    if not signature.startswith("sha256="):  # the library would take SHA-1, too
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

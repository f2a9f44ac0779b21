"""Signatures of deliveries: GitHub's published vector, and signatures made by Standard Webhooks' own library."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from standardwebhooks.webhooks import Webhook

from broadway.ingest.commands.signatures import SignatureCheck, SignatureError

SECRET = "It's a Secret to Everybody"
BODY = b"Hello, World!"
DIGEST = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
OLD, NEW = "an-older-secret-of-the-hook", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def check_signature(body: bytes, headers: dict[str, str], secrets: list[str]) -> None:
    """Check a body that arrives in two pieces."""
    check = SignatureCheck(headers, secrets)
    check.update(body[:3])
    check.update(body[3:])
    check.finish()


def github(digest: str = DIGEST, scheme: str = "sha256") -> dict[str, str]:
    return {"x-hub-signature-256": f"{scheme}={digest}"}


def standard(secret: str, body: bytes = BODY, *, at: datetime | None = None, delivery: str = "msg_1") -> dict[str, str]:
    at = at or datetime.now(UTC)
    key = secret if secret.startswith("whsec_") else secret.encode()
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(key).sign(delivery, at, body.decode()),
    }


def test_githubs_published_vector_is_accepted() -> None:
    check_signature(BODY, github(), [SECRET])


@pytest.mark.parametrize("secret", [SECRET, NEW], ids=["plain", "base64"])
def test_a_signature_of_standard_webhooks_is_accepted(secret: str) -> None:
    check_signature(BODY, standard(secret), [secret])


@pytest.mark.parametrize("sign", [github, partial(standard, SECRET)], ids=["GitHub", "standard"])
def test_either_of_two_secrets_is_accepted(sign: Callable[[], dict[str, str]]) -> None:
    headers = sign()
    check_signature(BODY, headers, [OLD, SECRET])
    check_signature(BODY, headers, [SECRET, OLD])
    with pytest.raises(SignatureError, match="signature"):
        check_signature(BODY, headers, [OLD])


def test_one_valid_signature_of_several_is_enough() -> None:
    both = standard(OLD)
    both["webhook-signature"] += " " + standard(SECRET)["webhook-signature"]
    check_signature(BODY, both, [SECRET])


REFUSED: dict[str, tuple[Callable[[], dict[str, str]], str]] = {
    "unsigned": (dict, "not signed: expected the header x-hub-signature-256 or webhook-signature"),
    "SHA-1 alone": (lambda: {"x-hub-signature": "sha1=" + "0" * 40}, "not signed"),
    "SHA-1 in the wrong place": (lambda: github(scheme="sha1"), "expected sha256="),
    "upper case": (lambda: github(DIGEST.upper()), "is not the signature of this body"),
    "zeros": (lambda: github("0" * 64), "is not the signature of this body"),
    "no hex": (lambda: github("ü"), "is not the signature of this body"),
    "empty": (lambda: github(""), "is not the signature of this body"),
    "another body": (lambda: standard(SECRET, b"another body"), "No matching signature"),
    "too old": (lambda: standard(SECRET, at=datetime.now(UTC) - timedelta(minutes=6)), "too old"),
    "too new": (lambda: standard(SECRET, at=datetime.now(UTC) + timedelta(minutes=6)), "too new"),
    "another id": (lambda: {**standard(SECRET), "webhook-id": "msg_2"}, "No matching signature"),
    "no id": (lambda: {**standard(SECRET), "webhook-id": ""}, "Missing required headers"),
    "no number": (lambda: {**standard(SECRET), "webhook-timestamp": "nan"}, "Invalid Signature Headers"),
    "no comma": (lambda: {**standard(SECRET), "webhook-signature": "v1"}, "expected webhook-id"),
    "no base64": (lambda: {**standard(SECRET), "webhook-signature": "v1,a"}, "expected webhook-id"),
    "another version": (lambda: {**standard(SECRET), "webhook-signature": "v2,abcd"}, "No matching signature"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_invalid_signature_is_refused(name: str) -> None:
    headers, problem = REFUSED[name]
    with pytest.raises(SignatureError, match=problem):
        check_signature(BODY, headers(), [SECRET])


def test_a_hook_without_a_secret_accepts_nothing() -> None:
    with pytest.raises(SignatureError, match="has no secret"):
        check_signature(BODY, github(), [])


def test_a_body_that_is_not_text_has_a_signature_like_any_other() -> None:
    with pytest.raises(SignatureError, match="No matching signature"):
        check_signature(b"\xff", standard(SECRET), [SECRET])


@pytest.mark.parametrize("name", ["unsigned", "SHA-1 in the wrong place", "too old", "no id", "no base64"])
def test_a_delivery_that_no_body_can_make_valid_is_refused_before_its_body(name: str) -> None:
    headers, problem = REFUSED[name]
    with pytest.raises(SignatureError, match=problem):
        SignatureCheck(headers(), [SECRET])

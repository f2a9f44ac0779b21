"""Payloads that git servers send after a push."""

import hashlib
import hmac
from secrets import token_hex
from typing import Any

MAIN = "refs/heads/main"


def push(student: str, commit: str | None = None, ref: str = MAIN, **more: Any) -> dict[str, Any]:
    """Return GitHub's payload for a push to the repository ``cs/<student>``, with the fields that Broadway reads."""
    identity = int.from_bytes(hashlib.sha256(student.encode()).digest()[:4], "big")
    repository = {"id": identity, "full_name": f"cs/{student}", "clone_url": f"https://git.example/cs/{student}"}
    return {"ref": ref, "after": commit or token_hex(20), "deleted": False, "repository": repository} | more


def signature(body: bytes, secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()

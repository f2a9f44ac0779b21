"""Records of the audit log: one for each unsafe action of a person, with secrets masked and bounded texts. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MASK = "***"
MAX_TEXT = 4096  # characters of a state in a record
MAX_DEPTH = 32
MAX_PARSED = 16 * 1024  # bytes; larger bodies are named by their size and hash

_SECRET = re.compile(r"(?i)secret|token|password|credential|signature|cookie|_url$|_dsn$")
_ENV = re.compile(r"(?i)(^|_)env$")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S", re.IGNORECASE)
_USER = re.compile(r"://[^/?#]*@")


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One unsafe action: when, who, what, and the state before and after it.

    ``course`` is the course in the path, ``given`` the body of the request; ``status`` is the answer's. The three
    states are JSON texts, in which secrets and the values of variables are masked.
    """

    id: str
    at: datetime
    kind: str
    name: str
    address: str
    operation: str
    object: str
    course: str | None
    status: int
    given: str | None
    before: str | None
    after: str | None
    request: str = ""


def record_of_service(
    identity: str,
    at: datetime,
    *,
    name: str,
    operation: str,
    about: str,
    course: str | None,
    after: Any,
    given: Any = None,
) -> AuditRecord:
    """Return the record of an action that a service has taken by itself on the object ``about``."""
    return AuditRecord(
        id=identity,
        at=at,
        kind="service",
        name=name,
        address="",
        operation=operation,
        object=about,
        course=course,
        status=200,
        given=described(given),
        before=None,
        after=described(after),
    )


def described(state: Any) -> str | None:
    """Return a state as JSON text, masked and cut; None for no state."""
    if state is None:
        return None
    text = json.dumps(masked(state), default=str, ensure_ascii=False, separators=(",", ":"))
    if len(text) <= MAX_TEXT:
        return text
    rest = f"… ({len(text)} characters, sha256 {_sha256(text.encode(errors='replace'))})"
    return text[: MAX_TEXT - len(rest)] + rest


def described_body(body: bytes) -> str | None:
    """Return the JSON of a body, masked and cut; the size and hash of a large one; None for an empty body."""
    if not body:
        return None
    if len(body) <= MAX_PARSED:
        try:
            return described(json.loads(body))
        except (ValueError, RecursionError):
            pass
    return json.dumps({"bytes": len(body), "sha256": _sha256(body)})


def masked(state: Any, depth: int = 0) -> Any:
    """Return a state without secrets: values of keys that name secrets or variables, users and queries of addresses."""
    if depth > MAX_DEPTH:
        return MASK
    if isinstance(state, Mapping):
        return {str(key): _masked_value(str(key), value, depth + 1) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [masked(each, depth + 1) for each in state]
    return _without_secrets(state) if isinstance(state, str) and _ADDRESS.match(state) else state


def _without_secrets(address: str) -> str:
    """Return an address with its user and its query masked, since receivers take tokens there."""
    place, mark, _ = _USER.sub(f"://{MASK}@", address).partition("?")
    return f"{place}?{MASK}" if mark else place


def _masked_value(key: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _ENV.search(key):
        return _names(value)
    return MASK if _SECRET.search(key) else masked(value, depth)


def _names(env: Any) -> Any:
    """Return the names of variables, of one environment or of a list of them."""
    if isinstance(env, Mapping):
        return dict.fromkeys(map(str, env), MASK)
    return [_names(each) for each in env] if isinstance(env, list | tuple) else MASK


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""Masking of the secrets in settings that are shown."""

import re

from pydantic import SecretStr

MASK = "***"

_USER = re.compile(r"://.*@", re.DOTALL)  # up to the last @, since a password may contain an unquoted one
_PARAMETER = re.compile(r"([?&][^=&]*(?:pass|token|secret|properties)[^=&]*=)[^&]*", re.IGNORECASE)


def masked(value: object) -> object:
    """Return a setting's value without tokens, and without users, passwords and secret parameters in addresses."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return _without_user(secret) if "://" in secret else MASK
    return _without_user(value) if isinstance(value, str) else value


def _without_user(address: str) -> str:
    return _PARAMETER.sub(rf"\1{MASK}", _USER.sub(f"://{MASK}@", address))

"""The types of values that settings share. Their errors contain no part of a value, which may be a secret."""

import re
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from yarl import URL

from broadway.domain.header_text import header_problem, text_problem

MAX_TEXT = 4096  # characters of a setting
_LAST_PORT = 65535
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_MONGO = (
    "should be an address, as in mongodb://user:password@host:port/?replicaSet=rs0 (or mongodb+srv), with special "
    "characters of the user and the password quoted, such as %40 for @"
)


def check_address(text: str, schemes: Sequence[str], expected: str) -> None:
    """Return if a text is an address of a server.

    Raises:
        ValueError: It is not; the error has ``expected``, and no part of the address.
    """
    if problem := text_problem(text):
        raise ValueError(f"{problem}; {expected}")
    try:
        address = URL(text)  # refuses a port out of range
        is_valid = address.scheme in schemes and bool(address.host)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(expected)


def _of_scheme(*schemes: str) -> Callable[[SecretStr], SecretStr]:
    expected = f"should be an address, as in {schemes[0]}://user:password@host:port (or {', '.join(schemes[1:])})"

    def check(secret: SecretStr) -> SecretStr:
        check_address(secret.get_secret_value(), schemes, expected)
        return secret

    return check


def _in_header(secret: SecretStr) -> SecretStr:
    """Refuse a token that no header can carry; an empty one is refused by its length."""
    value = secret.get_secret_value()
    if value and (problem := header_problem(value)):
        raise ValueError(problem)
    return secret


def _of_store(dsn: str) -> str:
    """Refuse what the driver would refuse: its own texts may contain a part of the password."""
    if problem := text_problem(dsn):
        raise ValueError(f"{problem}; {_MONGO}")
    scheme, _, rest = dsn.partition("://")
    login, _, hosts = rest.partition("?")[0].rpartition("@")
    is_quoted = not set(login) & set("/@?#[]")
    if scheme not in ("mongodb", "mongodb+srv") or not is_quoted or not _are_hosts(hosts):
        raise ValueError(_MONGO)
    return dsn


def _are_hosts(text: str) -> bool:
    """Return whether a text is a list of hosts, each perhaps with a port, before a path."""
    hosts = [_HOST.fullmatch(each) for each in text.partition("/")[0].split(",")]
    return all(found is not None and 0 < int(found[1] or 1) <= _LAST_PORT for found in hosts)


def _pool_names(text: str) -> str:
    """Check a list of pools; an empty text names no pool."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if any(not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name) for name in names):
        raise ValueError("should be names of pools, separated by commas: letters, digits, dashes and underscores")
    return ",".join(names)


PoolNames = Annotated[str, Field(max_length=10_000), AfterValidator(_pool_names)]
HeaderToken = Annotated[SecretStr, Field(max_length=MAX_TEXT), AfterValidator(_in_header)]
AmqpUrl = Annotated[SecretStr, Field(max_length=MAX_TEXT), AfterValidator(_of_scheme("amqp", "amqps"))]
HttpUrl = Annotated[SecretStr, Field(max_length=MAX_TEXT), AfterValidator(_of_scheme("http", "https"))]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)]
MongoDsn = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_of_store)]
# MongoDB refuses any other name, but only when something is written.
Database = Annotated[str, Field(pattern=r'^[^/\\. "$*<>:|?\x00]+$', max_length=63)]

"""Whom an image's ``USER`` names, by its own passwd and group files, as Docker reads them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_HOME_FIELD, _MEMBERS_FIELD = 5, 3


class UnknownUserError(Exception):
    """The image has no such user or group."""


@dataclass(frozen=True, slots=True)
class User:
    """Who a container's first process is."""

    uid: int
    gid: int
    groups: Sequence[int] = ()
    home: str = "/"


def resolve(text: str, *, passwd: str, group: str) -> User:
    """The user that ``name``, ``uid``, ``name:group`` or ``uid:gid`` means; root if it is empty.

    Raises:
        UnknownUserError: A name is in neither of the files.
    """
    user, _, own_group = (text or "0").partition(":")
    entry = next((fields for fields in _entries(passwd, 6) if user in (fields[0], fields[2])), None)
    if entry is None and not user.isdigit():
        raise UnknownUserError(f"unable to find user {user}: no matching entries in passwd file")
    uid, gid = (int(entry[2]), int(entry[3])) if entry else (int(user), 0)
    home = (entry[_HOME_FIELD] if entry else "") or "/"
    if own_group:
        return User(uid, _group(own_group, group), home=home)
    name = entry[0] if entry else ""
    return User(uid, gid, tuple(_memberships(name, group)) if name else (), home)


def _group(text: str, group: str) -> int:
    entry = next((fields for fields in _entries(group, 3) if text in (fields[0], fields[2])), None)
    if entry is None and not text.isdigit():
        raise UnknownUserError(f"unable to find group {text}: no matching entries in group file")
    return int(entry[2]) if entry else int(text)


def _memberships(name: str, group: str) -> Iterator[int]:
    for fields in _entries(group, 4):
        if name in fields[_MEMBERS_FIELD].split(","):
            yield int(fields[2])


def _entries(text: str, least: int) -> Iterator[list[str]]:
    """The lines that have at least so many fields, with numbers where they belong."""
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= least and fields[2].isdigit() and (least <= 4 or fields[3].isdigit()):  # noqa: PLR2004
            yield fields

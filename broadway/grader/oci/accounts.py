"""The user that an image's ``USER`` names, found in the image's passwd and group files as by Docker."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_HOME_FIELD, _MEMBERS_FIELD = 5, 3


class UnknownUserError(Exception):
    """The image has no such user or group."""


@dataclass(frozen=True, slots=True)
class User:
    """The user and groups of a container's first process."""

    uid: int
    gid: int
    groups: Sequence[int] = ()
    home: str = "/"


def resolve(text: str, *, passwd: str, group: str) -> User:
    """Return the user for ``name``, ``uid``, ``name:group`` or ``uid:gid``; root if the text is empty.

    Raises:
        UnknownUserError: The passwd or group file has no such name.
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


def _entries(text: str, min_fields: int) -> Iterator[list[str]]:
    """Yield the fields of each line that has at min_fields ``min_fields`` of them, with numbers where ids belong."""
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= min_fields and fields[2].isdigit() and (min_fields <= 4 or fields[3].isdigit()):  # noqa: PLR2004
            yield fields

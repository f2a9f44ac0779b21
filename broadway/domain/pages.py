"""Pages of lists that are sorted by time, latest first."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

Item = TypeVar("Item")

_DIGITS = 15  # of the milliseconds in a cursor
_ID = re.compile(r"[0-9a-f]{24}")


class CursorError(ValueError):
    """A cursor that no earlier page can have returned."""


@dataclass(frozen=True, slots=True)
class Slice(Generic[Item]):
    """One page of a list; ``next`` is the cursor of the page after it, None on the last page."""

    items: Sequence[Item]
    next: str | None


def sliced(found: Sequence[Item], limit: int, cursor_of: Callable[[Item], str]) -> Slice[Item]:
    """Return a page of ``limit`` items from a result that has one item more if there is a further page."""
    items = found[:limit]
    return Slice(items, cursor_of(items[-1]) if len(found) > len(items) else None)


def cursor(at: datetime, identity: str) -> str:
    """Return the cursor after an item with this time and id."""
    return f"{round(at.timestamp() * 1000)}-{identity}"


def position(text: str) -> tuple[datetime, str]:
    """Return the time and the id in a cursor.

    Raises:
        CursorError: The text is not a cursor.
    """
    digits, _, identity = text.partition("-")
    if not digits.isdecimal() or len(digits) > _DIGITS or not _ID.fullmatch(identity):
        raise CursorError("after: expected the next of the page before")
    return datetime.fromtimestamp(int(digits) / 1000, UTC), identity

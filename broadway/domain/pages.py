"""Pages of lists: those that are sorted by time go on after a cursor, and those that are read whole have numbers."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
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


ROWS = 100  # of a numbered page


@dataclass(frozen=True, slots=True)
class NumberedPage(Generic[Item]):
    """A page of a list that was read whole: its items, the number of all items, and its own number, from 1."""

    items: Sequence[Item]
    count: int
    page: int

    @property
    def pages(self) -> int:
        """The number of pages, at least 1."""
        return pages_of(self.count)

    @property
    def first(self) -> int:
        """The number of the first item of the page; 0 if there is none."""
        return (self.page - 1) * ROWS + 1 if self.items else 0

    @property
    def last(self) -> int:
        """The number of the last item of the page."""
        return self.first + len(self.items) - 1 if self.items else 0


def pages_of(count: int) -> int:
    """Return the number of pages that items take, at least 1."""
    return max(1, ceil(count / ROWS))


def numbered(found: Sequence[Item], wanted: int) -> NumberedPage[Item]:
    """Return a page by its number; a page beyond the last one is the last one."""
    page = min(wanted, pages_of(len(found)))
    return NumberedPage(found[(page - 1) * ROWS : page * ROWS], len(found), page)


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

"""Lists on pages that go on after a cursor, and their filters. A malformed link leads to the beginning."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeVar

from starlette.requests import Request

from broadway.domain.pages import CursorError, Slice

Item = TypeVar("Item")
State = TypeVar("State", bound=StrEnum)


async def slice_after(after: str | None, read: Callable[[str | None], Awaitable[Slice[Item]]]) -> Slice[Item]:
    """Return the part of a list after a cursor; the first one if no earlier part can have returned the cursor."""
    try:
        return await read(after)
    except CursorError:
        return await read(None)


def wanted_state(request: Request, states: type[State]) -> State | None:
    """Return the state that the query of a page names, or None for all."""
    wanted = request.query_params.get("state", "")
    return states(wanted) if wanted in list(states) else None

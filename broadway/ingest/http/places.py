"""Requests in their places: changes go first, reads wait for their turn, and none waits for an unavailable store."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Load
from broadway.ingest.http.visit import until_gone

Answer = Callable[[], Awaitable[Response]]


async def in_place(request: Request, deps: Deps, load: Load | None, answer: Answer) -> Response | None:
    """Return an answer in its place; without a ``load`` at once. None if the store becomes unavailable meanwhile.

    Raises:
        LimitError: There is no place.
        ClientDisconnect: The client is gone.
    """
    if load is None:
        return await deps.outages.change(_started(answer))
    place = deps.shares.place(load, request.path_params.get("course", ""))
    try:
        return await deps.outages.read(_in_turn(deps, load, answer), until_gone(request))
    finally:
        place.release()


async def _started(answer: Answer) -> Response:
    return await answer()


async def _in_turn(deps: Deps, load: Load, answer: Answer) -> Response:
    async with deps.shares.turn(load):
        return await answer()

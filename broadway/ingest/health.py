"""`/livez` and `/readyz`."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broadway.mongo import StoreError

if TYPE_CHECKING:
    from broadway.ingest.app import Deps


async def live(_: Request, __: "Deps") -> Response:
    """The process answers."""
    return JSONResponse({"alive": True})


async def ready(_: Request, deps: "Deps") -> Response:
    """Whether submissions can be stored and published; which part is away, if not."""
    parts = {"store": await _store_answers(deps), "broker": deps.rabbit.is_connected}
    is_ready = all(parts.values())
    return JSONResponse({"ready": is_ready, **parts}, 200 if is_ready else 503)


async def _store_answers(deps: "Deps") -> bool:
    try:
        await deps.store.ping()
    except StoreError:
        return False
    return True

"""`/livez` and `/readyz`."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from broadway.ingest.app import Deps


async def live(_: Request, __: "Deps") -> Response:
    """The process answers."""
    return JSONResponse({"alive": True})


async def ready(_: Request, deps: "Deps") -> Response:
    """Whether submissions can be stored; which part is away, if any is, and since when.

    Without the broker submissions are still accepted, and run later.
    """
    return JSONResponse(deps.health.report(), 200 if deps.health.is_ready else 503)

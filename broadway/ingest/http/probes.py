"""`/livez`, `/readyz` and `/metrics`."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broadway.ingest.http.deps import Deps
from broadway.runtime import metrics


async def live(_: Request, __: Deps) -> Response:
    """Answer: the process is alive."""
    return JSONResponse({"alive": True})


async def ready(_: Request, deps: Deps) -> Response:
    """Report whether submissions can be stored, which parts are unavailable, and since when.

    Without the broker submissions are still accepted, and run later.
    """
    return JSONResponse(deps.health.report(), 200 if deps.health.is_ready else 503)


async def scrape(request: Request, _: Deps) -> Response:
    """Serve all metrics of this process to Prometheus, from a thread: this takes milliseconds."""
    body, content_type = await asyncio.to_thread(metrics.exposition, request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})

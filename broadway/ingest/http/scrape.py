"""`/metrics`, for Prometheus."""

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from broadway.runtime import metrics

if TYPE_CHECKING:
    from broadway.ingest.app import Deps


async def scrape(request: Request, _: "Deps") -> Response:
    """All metrics of this process. It takes milliseconds, which other requests need not wait for."""
    body, content_type = await asyncio.to_thread(metrics.exposition, request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})

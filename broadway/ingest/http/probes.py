"""`/livez`, `/readyz` and `/metrics`."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broadway.domain.course import same_secret
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import bearer_token
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, takes
from broadway.ingest.http.visit import visit_of
from broadway.runtime import metrics


@takes(Auth.ANYBODY)
async def live(_: Request, __: Deps) -> Response:
    """Report that the process is alive."""
    return JSONResponse({"alive": True})


@takes(Auth.ANYBODY)
async def ready(_: Request, deps: Deps) -> Response:
    """Report whether submissions can be stored; name each unavailable part, with the time and the reason.

    Without the broker, submissions are still accepted, and run later.
    """
    return JSONResponse(deps.health.report(), 200 if deps.health.is_ready else 503)


@takes(Auth.ANYBODY)
async def scrape(request: Request, deps: Deps) -> Response:
    """Serve all metrics of this process to a request with the token for metrics.

    Formatting them takes milliseconds, so a thread does it.

    Raises:
        Refused: 401.
    """
    token = deps.settings.metrics_token
    if token is None or not same_secret(bearer_token(request), token.get_secret_value()):
        raise Refused(401, "invalid token")
    visit_of(request).note_valid()
    body, content_type = await asyncio.to_thread(metrics.exposition, request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})

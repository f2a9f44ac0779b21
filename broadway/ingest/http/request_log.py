"""What is done for every request, whoever answers it: ids for its log lines, metrics, and a line at DEBUG."""

import re
import time
from secrets import token_hex

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadway.domain import trace
from broadway.runtime import metrics

log = structlog.get_logger(__name__)

NO_ROUTE = "none"
OTHER = "other"
REQUEST_ID = "X-Request-Id"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNANSWERED = 500  # for an error that nobody has turned into an answer yet

_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestLog:
    """Watches the answers of an application. Paths count by their route, so that no id becomes a label.

    A request keeps the ids that it comes with, ``X-Request-Id`` and ``traceparent``, or is given some: they are in its
    log lines, the first also in the answer, the second, as ``request.state.traceparent``, for what it submits.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = headers.get(REQUEST_ID, "")
        request_id = request_id if _SANE.fullmatch(request_id) else token_hex(8)
        traceparent = trace.accepted(headers.get(trace.HEADER)) or trace.begun()
        scope.setdefault("state", {})["traceparent"] = traceparent
        with structlog.contextvars.bound_contextvars(request=request_id, **trace.log_ids(traceparent)):
            await self._watch(scope, receive, send, request_id)

    async def _watch(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        begun, status, seconds = time.perf_counter(), _UNANSWERED, None

        async def watched(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - begun
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            _note(scope, status, time.perf_counter() - begun if seconds is None else seconds)


def _note(scope: Scope, status: int, seconds: float) -> None:
    route = scope["route"].path_format if "route" in scope else NO_ROUTE
    method = scope["method"] if scope["method"] in _METHODS else OTHER
    metrics.HTTP_REQUESTS.labels(route, method, status).inc()
    metrics.HTTP_SECONDS.labels(route, method).observe(seconds)
    # Without the query, which may hold what is nobody's business.
    log.debug("answered", method=method, path=scope["path"], status=status, seconds=round(seconds, 4))

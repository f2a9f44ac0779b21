"""Ids for the log lines of each request, its metrics, and a log line at DEBUG."""

import re
import time
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadway.domain import trace
from broadway.domain.spans import Span
from broadway.runtime import metrics, tracing

log = structlog.get_logger(__name__)

NO_ROUTE = "none"
OTHER = "other"
REQUEST_ID = "X-Request-Id"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CHANGING = _METHODS - {"GET", "HEAD", "OPTIONS"}
_UNANSWERED = 500  # counted for an error that has no answer yet when it passes this middleware

_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestLog:
    """Middleware that observes all answers. Metrics count paths by route, so that no id becomes a label.

    A request keeps its ``X-Request-Id`` and ``traceparent``, or gets new ones. Both are in its log lines; the first is
    also in the answer, the second in ``request.state.traceparent``, for the runs that the request submits.
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
        received = trace.accepted(headers.get(trace.HEADER))
        traceparent = received or trace.begun()
        if received and tracing.is_on():  # what the request starts is a part of its own span
            traceparent = trace.continued(received)
        scope.setdefault("state", {})["traceparent"] = traceparent
        with structlog.contextvars.bound_contextvars(request=request_id, **trace.log_ids(traceparent)):
            await self._watch(scope, receive, send, request_id, received)

    async def _watch(self, scope: Scope, receive: Receive, send: Send, request_id: str, received: str | None) -> None:
        started, status, seconds = time.perf_counter(), _UNANSWERED, None

        async def watched(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - started
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - started if seconds is None else seconds
            _record(scope, status, seconds)
            if tracing.is_on() and scope["method"] in _CHANGING:
                tracing.export([_span(scope, status, seconds, received)])


def _span(scope: Scope, status: int, seconds: float, received: str | None) -> Span:
    """Return the span of a request that has been answered just now."""
    trace_id, span_id = trace.ids_of(scope["state"]["traceparent"])
    parent = trace.ids_of(received)[1] if received else ""
    route, end = scope["route"].path_format if "route" in scope else NO_ROUTE, datetime.now(UTC)
    return Span(
        trace_id,
        span_id,
        parent,
        f"{scope['method']} {route}",
        end - timedelta(seconds=seconds),
        end,
        {"http.request.method": scope["method"], "http.route": route, "http.response.status_code": status},
        error=f"status {status}" if status >= _UNANSWERED else "",
        is_request=True,
    )


def _record(scope: Scope, status: int, seconds: float) -> None:
    route = scope["route"].path_format if "route" in scope else NO_ROUTE
    method = scope["method"] if scope["method"] in _METHODS else OTHER
    metrics.HTTP_REQUESTS.labels(route, method, status).inc()
    metrics.HTTP_SECONDS.labels(route, method).observe(seconds)
    # Without the query and the secrets of personal links.
    path = route if scope["path"].startswith("/s/") else scope["path"]
    log.debug("answered", method=method, path=path, status=status, seconds=round(seconds, 4))

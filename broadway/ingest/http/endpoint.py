"""Routes whose refusals have our envelopes, and which stop waiting when the store becomes unavailable."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import structlog
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from broadway.ingest.http.answers import PREFLIGHT, failure
from broadway.ingest.http.deps import Deps, Handler
from broadway.ingest.http.errors import RETRY_AFTER, failed

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

_KEY = "__broadway_handles_outages__"
_LOGGED_AS = {"course": "course", "run_id": "run", "job_id": "job", "worker_id": "grader"}


class _Id(Convertor[str]):
    regex = "[A-Za-z0-9_-]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Scope(_Id):
    regex = "[^()]+"


register_url_convertor("id", _Id())
register_url_convertor("scope", _Scope())


def handles_outages(handler: HandlerT) -> HandlerT:
    """Mark a handler that has an answer of its own for an unavailable store."""
    setattr(handler, _KEY, True)
    return handler


def route(
    deps: Deps,
    path: str,
    preflight: Mapping[str, str] = MappingProxyType({}),
    handlers: Mapping[str, Handler] = MappingProxyType({}),
    **more: Handler,
) -> Route:
    """Return a route with a handler for each method; ``preflight`` are further headers of answers to OPTIONS."""
    handlers = {**handlers, **more}
    if not path.startswith("/api/") and "GET" in handlers:
        handlers = {**handlers, "HEAD": handlers["GET"]}  # load balancers and monitors ask so

    async def endpoint(request: Request) -> Response:
        structlog.contextvars.bind_contextvars(**_ids(request))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={**PREFLIGHT, **preflight})
        handler = handlers.get(request.method)
        if handler is None:
            return failed(request, 405, {"Allow": ", ".join([*handlers, "OPTIONS"])})
        if not path.startswith("/api/"):
            return await handler(request, deps)
        if deps.health.is_unavailable("store"):
            return failed(request, 503, {"Retry-After": RETRY_AFTER})  # at once, not after the store's timeout
        if hasattr(handler, _KEY):
            return await handler(request, deps)
        return await deps.outages.answer(handler(request, deps)) or failed(request, 503, {"Retry-After": RETRY_AFTER})

    return Route(path, _AnyMethod(endpoint))


def _ids(request: Request) -> dict[str, str]:
    """Return the ids in a request's path, under the keys of log lines."""
    return {_LOGGED_AS[name]: value for name, value in request.path_params.items() if name in _LOGGED_AS}


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 404 to any other path, also to WebSockets, which Starlette would answer with 403."""
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(failure(404))
    else:
        await failed(Request(scope), 404)(scope, receive, send)


class _AnyMethod:
    """An endpoint of all methods: Starlette passes every method on, so that refusals have our envelope."""

    def __init__(self, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive, send)
        response = await self._endpoint(request)
        await response(scope, receive, send)

"""Routes whose refusals have our envelopes, and which stop waiting when the store becomes unavailable."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import structlog
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from broadway.domain.access import ANYONE, Kind
from broadway.ingest.http.answers import PREFLIGHT, Refused, failure
from broadway.ingest.http.auditing import audited
from broadway.ingest.http.auth import Access, grant
from broadway.ingest.http.deps import Deps, Handler
from broadway.ingest.http.errors import RETRY_AFTER, failed
from broadway.ingest.http.places import in_place
from broadway.ingest.http.rights import PEOPLE, UNSAFE, Rights, rights_of
from broadway.ingest.http.visit import visit_of
from broadway.ports import StoreError

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
    """Return a route with a handler for each method; that of GET outside of the API also answers HEAD.

    ``preflight`` are further headers of answers to OPTIONS and of refusals.

    Raises:
        TypeError: A handler does not declare its credentials, or an unsafe one has no state before for the audit log.
    """
    handlers = {**handlers, **more}
    if not path.startswith("/api/") and "GET" in handlers:
        handlers["HEAD"] = handlers["GET"]  # load balancers and monitors ask so
    rights = {method: _checked(method, handler) for method, handler in handlers.items()}
    return Route(path, _AnyMethod(_Endpoint(deps, path, preflight, handlers, rights)))


def _checked(method: str, handler: Handler) -> Rights:
    rights = rights_of(handler)
    if method in UNSAFE and rights.before is None and not PEOPLE.isdisjoint(rights.kinds):
        raise TypeError(f"{handler.__module__}.{handler.__qualname__}: declare the state before it, or `nothing`")
    return rights


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Answers requests of all methods: admits each, then passes it to its handler."""

    deps: Deps
    path: str
    preflight: Mapping[str, str]
    handlers: Mapping[str, Handler]
    rights: Mapping[str, Rights]

    async def __call__(self, request: Request) -> Response:
        structlog.contextvars.bind_contextvars(**_ids(request))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={**PREFLIGHT, **self.preflight})
        handler = self.handlers.get(request.method)
        if handler is None:
            return failed(request, 405, {"Allow": ", ".join([*self.handlers, "OPTIONS"])})
        if not self.path.startswith("/api/"):
            return await self._admitted(request, handler)
        if self.deps.health.is_unavailable("store"):
            return failed(request, 503, {"Retry-After": RETRY_AFTER})  # at once, not after the store's timeout
        if hasattr(handler, _KEY):
            return await self._admitted(request, handler)
        load = self.rights[request.method].load_of(request.method)
        answer = await in_place(request, self.deps, load, lambda: self._admitted(request, handler))
        return answer or failed(request, 503, {"Retry-After": RETRY_AFTER})

    async def _admitted(self, request: Request, handler: Handler) -> Response:
        """Answer a request whose credential is one that the route takes.

        Raises:
            Refused: 401, or the handler's refusal.
        """
        rights = self.rights[request.method]
        try:
            access = await self._access(request, handler, rights)
            if not rights.is_open:
                visit_of(request).note_valid()
            grant(request, access)
            if request.method in UNSAFE and access.principal.kind in PEOPLE:
                return await audited(request, self.deps, handler, rights)
            return await handler(request, self.deps)
        except Refused as error:
            error.headers.update(self.preflight)
            raise

    async def _access(self, request: Request, handler: Handler, rights: Rights) -> Access:
        try:
            return await self.deps.authenticator.admit(request, rights)
        except StoreError as error:
            if hasattr(handler, _KEY) and rights.kinds == {Kind.GRADER}:
                return Access(ANYONE, outage=error)  # `grader_of` raises it in the handler
            raise


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

"""The HTTP surface: every route of v1 that clients use, the v2 reads, and the health checks."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from broadway.health import Health
from broadway.ingest import assignments, graders, health, jobs, orders, polling, runs, sockets, stream
from broadway.ingest.feed import Feed
from broadway.ingest.gateway import Gateway, Later
from broadway.ingest.payload import BodyTooLargeError, BodyTooSlowError, InvalidBodyError
from broadway.ingest.responses import PREFLIGHT, Refused, failure, invalid_body, problem, refused
from broadway.ingest.submit import KeyReusedError, RejectedError
from broadway.mongo import Store, StoreError
from broadway.mongo.assignments import UnstorableError
from broadway.rabbit import Rabbit
from broadway.settings import IngestSettings

log = structlog.get_logger(__name__)

RETRY_AFTER = "5"  # seconds; for clients that find the store away


@dataclass(slots=True)
class Deps:
    """What the handlers work with; ``later`` runs what an answer need not wait for, such as publishing."""

    settings: IngestSettings
    store: Store
    rabbit: Rabbit
    later: Later
    cluster_token: str
    gateway: Gateway
    feed: Feed
    health: Health
    is_stopping: bool = False


Handler = Callable[[Request, Deps], Awaitable[Response]]


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


def build_app(deps: Deps) -> Starlette:
    """The application; its dependencies live as long as it does."""
    route = partial(_route, deps)
    v1, v2 = "/api/v1", "/api/v2"
    routes: list[BaseRoute] = [
        route(f"{v1}/grading_config/{{course:id}}/{{assignment:id}}", GET=assignments.show, POST=assignments.register),
        route(f"{v1}/grading_run/{{course:id}}/{{assignment:id}}", POST=runs.start),
        route(f"{v1}/grading_run_status/{{course:id}}/{{run_id:id}}", GET=runs.status),
        route(f"{v1}/grading_run_env/{{course:id}}/{{run_id:id}}", GET=runs.environments),
        route(f"{v1}/grading_job_log/{{course:id}}/{{job_id:id}}", GET=jobs.read_log),
        route(f"{v1}/queue/{{course:id}}/length", GET=jobs.queue_length),
        route(f"{v1}/queue/{{course:id}}/{{job_id:id}}/position", GET=jobs.queue_position),
        route(f"{v1}/stream/{{course:id}}/{{job_id:id}}", stream.HEADERS, GET=stream.stream),
        route(f"{v1}/worker/{{course:id}}/{{scope:scope}}", GET=graders.list_workers),
        route(f"{v1}/worker/{{worker_id:id}}", POST=polling.register),
        route(f"{v1}/grading_job/{{worker_id:id}}", GET=polling.poll, POST=polling.report),
        route(f"{v1}/heartbeat/{{worker_id:id}}", POST=polling.heartbeat),
        route(f"{v1}/worker_ws/{{worker_id:id}}", GET=sockets.explain),
        WebSocketRoute(f"{v1}/worker_ws/{{worker_id:id}}", partial(sockets.attend, deps=deps)),
        route(f"{v2}/courses/{{course:id}}/runs/{{run_id:id}}", GET=runs.describe),
        route(f"{v2}/courses/{{course:id}}/runs/{{run_id:id}}/cancel", POST=orders.cancel_run),
        route(f"{v2}/courses/{{course:id}}/runs/{{run_id:id}}/rerun", POST=orders.rerun_run),
        route(f"{v2}/courses/{{course:id}}/jobs/{{job_id:id}}/cancel", POST=orders.cancel_job),
        route(f"{v2}/courses/{{course:id}}/jobs/{{job_id:id}}/rerun", POST=orders.rerun_job),
        route(f"{v2}/graders/{{worker_id:id}}", POST=graders.join, DELETE=polling.leave),
        route("/livez", GET=health.live),
        route("/readyz", GET=health.ready),
    ]
    app = Starlette(routes=routes, exception_handlers=_exception_handlers())
    app.router.redirect_slashes = False  # a path with a slash at its end is none of ours
    app.router.default = partial(_nowhere, app.router.default)
    return app


def _route(deps: Deps, path: str, preflight: Mapping[str, str] = MappingProxyType({}), **handlers: Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={**PREFLIGHT, **preflight})
        handler = handlers.get(request.method)
        if handler is None:
            return failure(405, {"Allow": ", ".join([*handlers, "OPTIONS"])})
        if deps.health.is_away("store") and path.startswith("/api/"):
            return failure(503, {"Retry-After": RETRY_AFTER})  # at once, instead of after the store's time limit
        return await handler(request, deps)

    return Route(path, _AnyMethod(endpoint))


async def _nowhere(otherwise: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """No such path: for WebSockets too, which Starlette would refuse as forbidden."""
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(failure(404))
    else:
        await otherwise(scope, receive, send)


class _AnyMethod:
    """Makes Starlette pass every method on, so that refusals have our envelope."""

    def __init__(self, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive, send)
        response = await self._endpoint(request)
        await response(scope, receive, send)


def _exception_handlers() -> Mapping[Any, Any]:
    return {
        Refused: _on_refused,
        InvalidBodyError: _on_invalid_body,
        BodyTooLargeError: _on_too_large,
        BodyTooSlowError: _on_too_slow,
        UnstorableError: _on_unstorable,
        RejectedError: _on_rejected,
        KeyReusedError: _on_key_reused,
        StoreError: _on_store_away,
        HTTPException: _on_http_exception,
        ClientDisconnect: _on_disconnect,
        Exception: _on_exception,
    }


def _is_v2(request: Request) -> bool:
    return request.url.path.startswith("/api/v2/")


def _on_refused(request: Request, error: Refused) -> Response:
    return problem(error.status, str(error)) if _is_v2(request) else refused(error.status, str(error))


def _on_invalid_body(request: Request, error: InvalidBodyError) -> Response:
    return problem(400, str(error)) if _is_v2(request) else invalid_body(str(error))


def _on_too_large(request: Request, error: BodyTooLargeError) -> Response:
    return problem(413, str(error)) if _is_v2(request) else invalid_body(str(error), 413)


def _on_too_slow(request: Request, error: BodyTooSlowError) -> Response:
    return problem(408, str(error)) if _is_v2(request) else invalid_body(str(error), 408)


def _on_unstorable(_: Request, error: UnstorableError) -> Response:
    return invalid_body(f"the body {error}")


def _on_rejected(_: Request, error: RejectedError) -> Response:
    return refused(400, str(error))


def _on_key_reused(_: Request, error: KeyReusedError) -> Response:
    return refused(422, str(error))


def _on_store_away(request: Request, error: StoreError) -> Response:
    log.error("store unavailable", path=request.url.path, reason=str(error))
    return failure(503, {"Retry-After": RETRY_AFTER})


def _on_http_exception(_: Request, error: HTTPException) -> Response:
    return failure(error.status_code)


def _on_disconnect(_: Request, error: ClientDisconnect) -> Response:
    log.info("client went away", reason=str(error))
    return failure(400)


def _on_exception(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, method=request.method, exc_info=error)
    return failure(500)

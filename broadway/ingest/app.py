"""The HTTP surface: every route of v1 that clients use, the resources of v2, and the health checks."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from broadway.ingest.commands.limits import InvalidEnvError, Limits, RejectedError
from broadway.ingest.commands.receive import Receiver
from broadway.ingest.commands.submit import KeyReusedError, Submissions
from broadway.ingest.gateway.broker_accounts import BrokerAccounts
from broadway.ingest.gateway.sessions import Gateway, Later
from broadway.ingest.http import probes, scrape
from broadway.ingest.http.answers import PREFLIGHT, Refused, failure, invalid_body, problem, refused
from broadway.ingest.http.auth import CourseStore
from broadway.ingest.http.bodies import BodyTooLargeError, BodyTooSlowError, InvalidBodyError
from broadway.ingest.http.outages import StoreOutages
from broadway.ingest.http.request_log import RequestLog
from broadway.ingest.live.feed import Feed
from broadway.ingest.v1 import polling, sockets, stream
from broadway.ingest.v2 import assignments, courses, dead_letters, docs_page, graders, hooks, jobs, orders, runs
from broadway.lifecycle.phases import Announcer
from broadway.mongo.runs import CursorError
from broadway.mongo.store import Store
from broadway.ports import StoreError, UnstorableError
from broadway.rabbit.client import Rabbit
from broadway.runtime.health import Health
from broadway.settings.programs import IngestSettings

log = structlog.get_logger(__name__)

_LOGGED_AS = {"course": "course", "run_id": "run", "job_id": "job", "worker_id": "grader"}
RETRY_AFTER = "5"  # seconds; for clients that find the store away


@dataclass(slots=True)
class Deps:
    """What the handlers work with; ``later`` runs what an answer need not wait for, such as publishing.

    ``courses`` is for submissions, and may be behind the store by a second. ``accounts`` is None when graders get no
    users of their own at the broker.
    """

    settings: IngestSettings
    limits: Limits
    store: Store
    rabbit: Rabbit
    later: Later
    cluster_token: str
    gateway: Gateway
    feed: Feed
    health: Health
    patience: StoreOutages
    courses: CourseStore
    submissions: Submissions
    announcer: Announcer
    receiver: Receiver
    accounts: BrokerAccounts | None = None
    is_stopping: bool = False


Handler = Callable[[Request, Deps], Coroutine[Any, Any, Response]]

# Graders of the original end at what they do not expect: these say themselves what it means that the store is away.
_UNHURRIED = (polling.poll, polling.heartbeat)


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


_COURSE = "/api/v2/courses/{course:id}"
_GRADER = "/api/v2/graders/{worker_id:id}"

V2: Mapping[str, Mapping[str, Handler]] = {
    "/api/v2/courses": {"GET": courses.list_courses},
    _COURSE: {"GET": courses.show},
    f"{_COURSE}/assignments": {"GET": assignments.list_assignments},
    f"{_COURSE}/assignments/{{assignment:id}}": {"GET": assignments.describe, "PUT": assignments.put},
    f"{_COURSE}/assignments/{{assignment:id}}/roster": {"GET": hooks.show_roster, "PUT": hooks.put_roster},
    f"{_COURSE}/assignments/{{assignment:id}}/runs": {"POST": runs.create},
    f"{_COURSE}/runs": {"GET": runs.list_runs},
    f"{_COURSE}/runs/{{run_id:id}}": {"GET": runs.describe},
    f"{_COURSE}/runs/{{run_id:id}}/jobs": {"GET": runs.list_jobs},
    f"{_COURSE}/runs/{{run_id:id}}/cancel": {"POST": orders.cancel_run},
    f"{_COURSE}/runs/{{run_id:id}}/rerun": {"POST": orders.rerun_run},
    f"{_COURSE}/jobs/{{job_id:id}}": {"GET": jobs.describe},
    f"{_COURSE}/jobs/{{job_id:id}}/attempts": {"GET": jobs.list_attempts},
    f"{_COURSE}/jobs/{{job_id:id}}/log": {"GET": jobs.describe_log},
    f"{_COURSE}/jobs/{{job_id:id}}/cancel": {"POST": orders.cancel_job},
    f"{_COURSE}/jobs/{{job_id:id}}/rerun": {"POST": orders.rerun_job},
    f"{_COURSE}/hooks": {"GET": hooks.list_hooks},
    f"{_COURSE}/hooks/{{hook:id}}": {
        "GET": hooks.show,
        "PUT": hooks.put,
        "DELETE": hooks.delete,
        "POST": hooks.deliver,
    },
    f"{_COURSE}/hooks/{{hook:id}}/deliveries": {"GET": hooks.list_deliveries},
    f"{_COURSE}/hooks/{{hook:id}}/deliveries/{{delivery:id}}": {"GET": hooks.show_delivery},
    f"{_COURSE}/hooks/{{hook:id}}/deliveries/{{delivery:id}}/redeliver": {"POST": hooks.redeliver},
    "/api/v2/graders": {"GET": graders.list_graders},
    _GRADER: {"GET": graders.describe, "POST": graders.join, "DELETE": polling.leave},
    f"{_GRADER}/pause": {"POST": graders.pause},
    f"{_GRADER}/resume": {"POST": graders.resume},
    f"{_GRADER}/drain": {"POST": graders.drain},
    f"{_GRADER}/slots": {"POST": graders.set_slots},
    f"{_GRADER}/revoke": {"POST": graders.revoke},
    f"{_GRADER}/readmit": {"POST": graders.readmit},
    "/api/v2/dead-letters": {"GET": dead_letters.list_letters},
    "/api/v2/dead-letters/{letter:id}": {"GET": dead_letters.show, "DELETE": dead_letters.discard},
}


def build_app(deps: Deps) -> Starlette:
    """The application; its dependencies live as long as it does."""
    route = partial(_route, deps)
    v1 = "/api/v1"
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
        *(_route(deps, path, handlers=handlers) for path, handlers in V2.items()),
        route("/api/v2/openapi.json", GET=docs_page.openapi_json),
        route("/docs", GET=docs_page.page),
        route("/livez", GET=probes.live),
        route("/readyz", GET=probes.ready),
        route("/metrics", GET=scrape.scrape),
    ]
    app = Starlette(routes=routes, exception_handlers=_exception_handlers(), middleware=[Middleware(RequestLog)])
    app.router.redirect_slashes = False  # a path with a slash at its end is none of ours
    app.router.default = _nowhere
    return app


def _route(
    deps: Deps,
    path: str,
    preflight: Mapping[str, str] = MappingProxyType({}),
    handlers: Mapping[str, Handler] = MappingProxyType({}),
    **more: Handler,
) -> Route:
    handlers = {**handlers, **more}

    async def endpoint(request: Request) -> Response:
        structlog.contextvars.bind_contextvars(**_ids(request))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={**PREFLIGHT, **preflight})
        handler = handlers.get(request.method)
        if handler is None:
            return _failed(request, 405, {"Allow": ", ".join([*handlers, "OPTIONS"])})
        if not path.startswith("/api/"):
            return await handler(request, deps)
        if deps.health.is_away("store"):
            return _failed(request, 503, {"Retry-After": RETRY_AFTER})  # at once, not after the store's time limit
        if handler in _UNHURRIED:
            return await handler(request, deps)
        return await deps.patience.answer(handler(request, deps)) or _failed(request, 503, {"Retry-After": RETRY_AFTER})

    return Route(path, _AnyMethod(endpoint))


def _ids(request: Request) -> dict[str, str]:
    """What the path says of whom a request is about, in the words of log lines."""
    return {_LOGGED_AS[name]: value for name, value in request.path_params.items() if name in _LOGGED_AS}


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """No such path: for WebSockets too, which Starlette would refuse as forbidden."""
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(failure(404))
    else:
        await _failed(Request(scope), 404)(scope, receive, send)


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
        InvalidEnvError: _on_invalid_env,
        RejectedError: _on_rejected,
        CursorError: _on_cursor,
        KeyReusedError: _on_key_reused,
        StoreError: _on_store_away,
        HTTPException: _on_http_exception,
        ClientDisconnect: _on_disconnect,
        Exception: _on_exception,
    }


def _is_v2(request: Request) -> bool:
    return request.url.path.startswith("/api/v2/")


def _failed(request: Request, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to what no handler foresaw, in the envelope of the version that was asked."""
    if not _is_v2(request):
        return failure(status, dict(headers or {}))
    answer = problem(status, _DETAILS.get(status, HTTPStatus(status).description or HTTPStatus(status).phrase))
    answer.headers.update(headers or {})
    return answer


_DETAILS = {
    404: "there is nothing at this path",
    500: "something is wrong with the server; its log says what",
    503: "the store is away; what was asked for may have been done if that was begun",
}


def _on_refused(request: Request, error: Refused) -> Response:
    return problem(error.status, str(error)) if _is_v2(request) else refused(error.status, str(error))


def _on_invalid_body(request: Request, error: InvalidBodyError) -> Response:
    return problem(400, str(error)) if _is_v2(request) else invalid_body(str(error))


def _on_too_large(request: Request, error: BodyTooLargeError) -> Response:
    return problem(413, str(error)) if _is_v2(request) else invalid_body(str(error), 413)


def _on_too_slow(request: Request, error: BodyTooSlowError) -> Response:
    return problem(408, str(error)) if _is_v2(request) else invalid_body(str(error), 408)


def _on_unstorable(request: Request, error: UnstorableError) -> Response:
    return _on_invalid_body(request, InvalidBodyError(f"the body {error}"))


def _on_invalid_env(request: Request, error: InvalidEnvError) -> Response:
    return _on_invalid_body(request, InvalidBodyError(str(error)))


def _on_rejected(request: Request, error: RejectedError) -> Response:
    return _on_refused(request, Refused(400, str(error)))


def _on_cursor(request: Request, error: CursorError) -> Response:
    return _on_refused(request, Refused(400, str(error)))


def _on_key_reused(request: Request, error: KeyReusedError) -> Response:
    return _on_refused(request, Refused(422, str(error)))


def _on_store_away(request: Request, error: StoreError) -> Response:
    log.error("store unavailable", path=request.url.path, reason=str(error))
    return _failed(request, 503, {"Retry-After": RETRY_AFTER})


def _on_http_exception(request: Request, error: HTTPException) -> Response:
    return _failed(request, error.status_code)


def _on_disconnect(request: Request, error: ClientDisconnect) -> Response:
    log.info("client went away", reason=str(error))
    return _failed(request, 400)


def _on_exception(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, method=request.method, exc_info=error)
    return _failed(request, 500)

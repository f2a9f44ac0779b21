"""Middleware that lets requests in within the rates, and counts the wrong tokens among them."""

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from broadway.ingest.http.admission import ClientLimits, LimitError
from broadway.ingest.http.errors import limited
from broadway.ingest.http.visit import Visit

FREE = frozenset({"/livez", "/readyz"})  # supervisors ask there, often from an address with other clients
UNAUTHORIZED, POLICY_VIOLATION = 401, 1008


class Gate:
    """Middleware around all routes, of HTTP and of WebSockets."""

    def __init__(self, app: ASGIApp, admission: ClientLimits) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        visit = Visit.of(connection, self._admission)
        try:
            visit.begin(is_free=_is_free(scope))
        except LimitError as error:
            visit.end()
            await _refuse(error, scope, receive, send)
            return
        try:
            await self._app(scope, receive, _watched(send, visit, scope))
        finally:
            visit.end()


def _is_free(scope: Scope) -> bool:
    """Return whether no rate applies: to probes, and to the preflights that browsers send before each request."""
    return scope["path"] in FREE or scope.get("method") == "OPTIONS"


def _watched(send: Send, visit: Visit, scope: Scope) -> Send:
    def note() -> None:
        visit.note_failure(scope.get("path_params", {}).get("course", ""))

    async def watched(message: Message) -> None:
        if (message["type"] == "http.response.start" and message["status"] == UNAUTHORIZED) or (
            message["type"] == "websocket.close" and message.get("code") == POLICY_VIOLATION
        ):
            note()
        await send(message)

    return watched


async def _refuse(error: LimitError, scope: Scope, receive: Receive, send: Send) -> None:
    answer = limited(Request({**scope, "type": "http"}), error)
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(answer)
    else:
        await answer(scope, receive, send)

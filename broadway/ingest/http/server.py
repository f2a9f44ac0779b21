"""Uvicorn as this service needs it: no signal handlers, the original's texts, and limits on slow clients."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.server import ServerProtocol

MAX_FRAME = 10 * 1024 * 1024  # bytes of a WebSocket message, the original's limit
HEADERS_WITHIN = 30.0  # seconds that a client may take to send the head of a request

NO_CODE = int(CloseCode.NO_STATUS_RCVD)  # closes with a frame that holds no code
ABORT = "broadway.abort"  # the scope's extension that cuts a connection without waiting for its client
PINGS = "broadway.pings"  # the scope's extension that takes a callback for every ping of the client

# The original's graders take this status as "no job yet, poll again".
httptools_impl.STATUS_LINE[498] = b"HTTP/1.1 498 Unknown\r\n"


class Server(uvicorn.Server):
    """A server that its service starts and stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpProtocol(httptools_impl.HttpToolsProtocol):
    """HTTP whose clients must send the head of each request in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: self.transport.abort}  # type: ignore[dict-item]
        if self._deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEADERS_WITHIN, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


class _Frames(ServerProtocol):
    """Close frames as the original sends them."""

    def send_close(self, code: CloseCode | int | None = None, reason: str = "") -> None:
        super().send_close(None if code == NO_CODE else code, reason)

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        super().fail(code, "message too big" if code == CloseCode.MESSAGE_TOO_BIG else reason)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSockets that report pings to the application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Frames(max_size=self.config.ws_max_size, logger=logging.getLogger("uvicorn.error"))
        self._on_ping: Callable[[], None] = _nothing

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[PINGS] = self._listen_for_pings

    def handle_ping(self) -> None:
        super().handle_ping()
        self._on_ping()

    def _listen_for_pings(self, callback: Callable[[], None]) -> None:
        self._on_ping = callback


def _nothing() -> None:
    pass

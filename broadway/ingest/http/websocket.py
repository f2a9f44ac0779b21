"""WebSocket connections: the original's close frames, pings that the application hears of, and limits."""

import logging
from asyncio.transports import BaseTransport
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from broadway.ingest.http.admission import ClientLimits
from broadway.ingest.http.slow_reader import SlowReader

MAX_FRAME = 10 * 1024 * 1024  # bytes of a WebSocket message, the original's limit
MAX_AFTER_CLOSE = 64 * 1024  # bytes; a client that is told to close has no more to say than that it does

NO_CODE = int(CloseCode.NO_STATUS_RCVD)  # closes with a frame that holds no code
PINGS = "broadway.pings"  # the scope's extension that takes a callback for every ping of the client

_INVALID = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


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
        self._admission: ClientLimits = self.config.admission  # type: ignore[attr-defined]
        self._reader: SlowReader | None = None
        self._after_close = 0

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._reader = SlowReader(self.transport, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reader:
            self._reader.stop()
        self._admission.disconnect(self.transport)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reader:
            self._reader.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader:
            self._reader.stop()

    def data_received(self, data: bytes) -> None:
        if self.close_sent:
            self._after_close += len(data)
            if self._after_close > MAX_AFTER_CLOSE:
                self.transport.abort()
                return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(_INVALID)
            self.transport.close()

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

"""Uvicorn as this service needs it: no signal handlers, and connections with limits."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE

from broadway.ingest.http.admission import ClientLimits
from broadway.ingest.http.connection import HttpProtocol
from broadway.ingest.http.tls_listener import TlsListener, listen
from broadway.ingest.http.websocket import WebSocketProtocol

SPARE_FILES = 256  # descriptors that are not for connections


class Config(uvicorn.Config):
    """Uvicorn's configuration, with the limits on clients."""

    def __init__(self, app: ASGIApp, *, admission: ClientLimits, **options: Any) -> None:
        # The address of a proxied client comes from `Visit`, which reads all lines of X-Forwarded-For.
        own: dict[str, Any] = {"http": HttpProtocol, "ws": WebSocketProtocol, "proxy_headers": False}
        super().__init__(app, **own, **options)
        self.admission = admission


class Server(uvicorn.Server):
    """A server that its service starts and stops."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.servers = []

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        finally:
            for each in self.servers:  # still open if the task was cancelled
                each.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.config.ssl is None:
            await super().startup(sockets)
        else:
            self._listen(self.config.ssl)
        self.listening.set()

    def _listen(self, context: ssl.SSLContext) -> None:
        config = self.config
        try:
            listening = listen(config.host, config.port, config.backlog)
        except OSError as error:
            raise SystemExit(STARTUP_FAILURE) from error
        protocol = partial(HttpProtocol, config=config, server_state=self.server_state, app_state=self.lifespan.state)
        listener = TlsListener(listening, context, config.admission, protocol)
        self.servers = [listener]  # type: ignore[list-item]  # it closes as a server of the event loop does
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def possible_connections(wanted: int) -> int:
    """Raise this process's limit on open files as far as possible; return how many connections it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, soft - SPARE_FILES)

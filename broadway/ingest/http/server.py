"""Uvicorn as this service needs it: no signal handlers, and connections with limits."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from broadway.ingest.http.admission import ClientLimits
from broadway.ingest.http.connection import HttpProtocol
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

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

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

"""Server-sent events: responses that end with their source, or when their client goes or reads nothing."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import structlog
from starlette.responses import Response

from broadway.ingest.http.answers import CORS
from broadway.ingest.http.connection import ABORT
from broadway.service import background

log = structlog.get_logger(__name__)

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
KEEP_ALIVE = 20.0  # seconds
SEND_TIMEOUT = 30.0  # seconds without reading after which a client is disconnected
RETRY = 2000  # milliseconds after which a client connects again
LONGEST = 30 * 60.0  # seconds of one response; the client then connects again


class Source(Protocol):
    """The events of one stream."""

    async def next(self) -> bytes | None:
        """Wait for the next events, as ``event`` writes them; return None after the last one."""


def event(name: str, data: str, identity: str = "") -> bytes:
    """Return an event; ``data`` and ``identity`` have no line breaks."""
    head = f"id: {identity}\n" if identity else ""
    return f"{head}event: {name}\ndata: {data}\n\n".encode()


class EventStream(Response):
    """A response whose events come from a source, which is open for as long as the response."""

    def __init__(
        self,
        source: Callable[[], AbstractAsyncContextManager[Source]],
        *,
        longest: float = LONGEST,
        headers: Mapping[str, str] = CORS,
    ) -> None:
        super().__init__(headers={**HEADERS, **headers, "Content-Type": "text/event-stream"})
        del self.headers["Content-Length"]
        self._source = source
        self._longest = longest

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self._source() as source:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async with background(until_gone(receive)):
                    await self._publish(source, send)
            except* GoneError:
                pass
            except* TimeoutError:
                log.warning("reader of events reads nothing", path=scope["path"])
                scope["extensions"][ABORT]()

    async def _publish(self, source: Source, send: Any) -> None:
        await write(send, f"retry: {RETRY}\n\n".encode(), more=True)
        until = time.monotonic() + self._longest
        while (left := until - time.monotonic()) > 0:
            chunk: bytes | None = b":\n\n"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(KEEP_ALIVE, left)):
                    chunk = await source.next()
            if chunk is None:
                break
            await write(send, chunk, more=True)
        await write(send, b"", more=False)


class GoneError(Exception):
    """The client has disconnected."""


async def until_gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise GoneError


async def write(send: Any, chunk: bytes, *, more: bool) -> None:
    """Return when the client's connection has taken a chunk.

    Raises:
        TimeoutError: The connection takes nothing for ``SEND_TIMEOUT``.
    """
    async with asyncio.timeout(SEND_TIMEOUT):
        await send({"type": "http.response.body", "body": chunk, "more_body": more})

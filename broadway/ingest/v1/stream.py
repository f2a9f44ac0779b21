"""`/stream`: the progress of one job, as server-sent events, byte for byte as the original writes them."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.job import Job
from broadway.ingest.http.answers import CORS
from broadway.ingest.http.connection import ABORT
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import READERS, takes
from broadway.ingest.http.scope import own_job
from broadway.ingest.live.feed import Feed, Watcher
from broadway.service import background

log = structlog.get_logger(__name__)

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
KEEP_ALIVE = 20.0  # seconds
SEND_TIMEOUT = 30.0  # seconds without reading after which a client is disconnected


@takes(*READERS)
async def stream(request: Request, deps: Deps) -> Response:
    """Stream the positions and states of a job until it is over."""
    return JobStream(await own_job(request, deps), deps.feed)


class JobStream(Response):
    """A response that ends with its job."""

    def __init__(self, job: Job, feed: Feed) -> None:
        super().__init__(headers={**CORS, **HEADERS, "Content-Type": "text/event-stream"})
        del self.headers["Content-Length"]
        self._job = job
        self._feed = feed

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        begun = asyncio.get_running_loop().time()
        with contextlib.suppress(_Gone):
            async with self._feed.watch(self._job) as watcher:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                try:
                    async with background(_until_gone(receive)):
                        await self._publish(watcher, _Writer(send), keep_alive=begun + KEEP_ALIVE)
                except* _Gone:
                    pass
                except* TimeoutError:
                    log.warning("watcher reads nothing", job=self._job.id)
                    scope["extensions"][ABORT]()

    async def _publish(self, watcher: Watcher, writer: "_Writer", *, keep_alive: float) -> None:
        await writer.write(b"", more=True)  # sends the headers now
        while True:
            try:
                async with asyncio.timeout_at(keep_alive):
                    update = await watcher.next()
            except TimeoutError:
                keep_alive += KEEP_ALIVE
                await writer.write(b":\n\n", more=True)
                continue
            if update is None:
                return await writer.write(b"", more=False)
            await writer.write(_event(update), more=True)


def _event(update: int | str) -> bytes:
    data: Mapping[str, object] = {"type": "position" if isinstance(update, int) else "state", "data": update}
    return f"event: status_update\ndata: {json.dumps(data)}\n\n".encode()


class _Gone(Exception):  # noqa: N818 - an end, not an error
    """The client has disconnected."""


async def _until_gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _Gone


class _Writer:
    def __init__(self, send: Any) -> None:
        self._send = send

    async def write(self, chunk: bytes, *, more: bool) -> None:
        """Return when the client's connection has taken a chunk.

        Raises:
            TimeoutError: The connection takes nothing for ``SEND_TIMEOUT``.
        """
        async with asyncio.timeout(SEND_TIMEOUT):
            await self._send({"type": "http.response.body", "body": chunk, "more_body": more})

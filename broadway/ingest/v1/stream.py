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
from broadway.ingest.http.event_stream import HEADERS, GoneError, until_gone, write
from broadway.ingest.http.rights import READERS, takes
from broadway.ingest.http.scope import own_job
from broadway.ingest.live.feed import Feed, Watcher
from broadway.service import background

log = structlog.get_logger(__name__)

KEEP_ALIVE = 20.0  # seconds


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
        with contextlib.suppress(GoneError):
            async with self._feed.watch(self._job) as watcher:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                try:
                    async with background(until_gone(receive)):
                        await self._publish(watcher, send, keep_alive=begun + KEEP_ALIVE)
                except* GoneError:
                    pass
                except* TimeoutError:
                    log.warning("watcher reads nothing", job=self._job.id)
                    scope["extensions"][ABORT]()

    async def _publish(self, watcher: Watcher, send: Any, *, keep_alive: float) -> None:
        await write(send, b"", more=True)  # sends the headers now
        while True:
            try:
                async with asyncio.timeout_at(keep_alive):
                    update = await watcher.next()
            except TimeoutError:
                keep_alive += KEEP_ALIVE
                await write(send, b":\n\n", more=True)
                continue
            if update is None:
                return await write(send, b"", more=False)
            await write(send, _event(update), more=True)


def _event(update: int | str) -> bytes:
    data: Mapping[str, object] = {"type": "position" if isinstance(update, int) else "state", "data": update}
    return f"event: status_update\ndata: {json.dumps(data)}\n\n".encode()

"""`/ui/j/…/log/live`: the log of a running job as server-sent events with HTML, for the readers of its page."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.job import Job
from broadway.domain.visibility import Role, logs_seen
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.event_stream import EventStream, Source, event
from broadway.ingest.http.log_streams import demand_room
from broadway.ingest.http.rights import Auth, takes
from broadway.ingest.live.log_ring import Cursor, LogEvent, Position
from broadway.ingest.live.logs import Reader
from broadway.ingest.ui.job_page import own_job
from broadway.ingest.ui.security import secret_of
from broadway.ingest.ui.templating import rendered
from broadway.ports import StoreError

CHECK_SESSION = 10.0  # seconds between two checks of a session, at least
RENDERED = 128  # events whose HTML is kept for further readers of the same log
_HEADERS = {"Cache-Control": "no-store"}


@takes(Auth.COURSE, Auth.STUDENT)
async def follow(request: Request, deps: Deps) -> Response:
    """Follow the log of a job until the job has ended. A student gets the stages whose logs students may see."""
    own = await own_job(request, deps)
    last = request.headers.get("last-event-id") or request.query_params.get("after", "")
    cursor = Cursor(Position.read(last) or Position())
    if own.role is Role.STUDENT:
        cursor.sees = logs_seen(own.stages).__contains__
    demand_room(deps, own.job)
    return EventStream(lambda: _source(deps, own.job, cursor, secret_of(request)), headers=_HEADERS)


@contextlib.asynccontextmanager
async def _source(deps: Deps, job: Job, cursor: Cursor, secret: str) -> AsyncIterator[Source]:
    async with deps.live_logs.read(job, cursor) as reader:
        yield _Lines(reader, deps, secret)


@dataclass(slots=True)
class _Lines:
    """The events of a reader. They end with the session, and with the process."""

    reader: Reader
    deps: Deps
    secret: str
    checked: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    async def next(self) -> bytes | None:
        # The wait is shorter than the stream's, so that a session is checked also while the program writes nothing.
        while await self._is_admitted():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SESSION):
                    events = await self.reader.next()
                    return None if events is None else b"".join(map(_written, events))
        return None

    async def _is_admitted(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self.checked < CHECK_SESSION:
            return True
        self.checked = now
        try:
            return await self.deps.sign_in.find(self.secret) is not None
        except StoreError:
            return False  # the browser begins again where it was


def _written(told: LogEvent) -> bytes:
    """Return an event for the page: HTML to append, or the end."""
    if told.name == "end":
        return event("end", "-", told.id)
    return event("log", _html(told.name, told.data), told.id)


@lru_cache(RENDERED)
def _html(name: str, data: str) -> str:
    return rendered("_log_part.html", name=name, told=json.loads(data)).replace("\n", "")

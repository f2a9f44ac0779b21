"""Live logs as server-sent events, for every interface that has admitted the reader."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from broadway.domain.job import Job
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.event_stream import EventStream, Source, event
from broadway.ingest.live.log_ring import Cursor, LogEvent
from broadway.ingest.live.logs import Reader, TooManyReadersError
from broadway.ingest.reads.waiting import Place, queue_view
from broadway.ports import StoreError

RETRY_AFTER = 10  # seconds
PLACE_INTERVAL = 3.0  # seconds between two looks at the place of a job that waits


def log_stream(deps: Deps, job: Job, cursor: Cursor) -> Response:
    """Return the log of a job as a stream of events, from a cursor's position on.

    The caller has checked that the reader may read the job, and ``cursor.sees`` has the stages that the reader may see.

    Raises:
        Refused: 503, this process serves too many logs.
    """
    demand_room(deps, job)
    return EventStream(lambda: _source(deps, job, cursor))


def demand_room(deps: Deps, job: Job) -> None:
    """Return if one more reader of a job's log has room.

    Raises:
        Refused: 503, this process serves too many logs.
    """
    if not deps.live_logs.has_room(job):
        raise Refused(503, str(TooManyReadersError()), retry_after=RETRY_AFTER)


@dataclass(slots=True)
class _Source:
    """The events of a reader; the place of a job that waits comes before them, and again after each change."""

    reader: Reader
    place: Callable[[], Awaitable[Place | None]]
    told: str | None = ""  # the last place; None once the job has left the queue

    async def next(self) -> bytes | None:
        while self.told is not None:
            place = await self.place()
            data = queue_view(place).model_dump_json() if place else None
            if data is not None and data != self.told:
                self.told = data
                return event("queue", data)
            if data is None:
                self.told = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PLACE_INTERVAL if data else None):
                    return self._written(await self.reader.next())
        return self._written(await self.reader.next())

    def _written(self, events: Sequence[LogEvent] | None) -> bytes | None:
        if events is None:
            return None
        self.told = None
        return b"".join(event(each.name, each.data, each.id) for each in events)


@contextlib.asynccontextmanager
async def _source(deps: Deps, job: Job, cursor: Cursor) -> AsyncIterator[Source]:
    async with deps.live_logs.read(job, cursor) as reader:
        yield _Source(reader, lambda: _place(deps, job))


async def _place(deps: Deps, job: Job) -> Place | None:
    try:
        return await deps.reads.waiting.current_place(job)
    except StoreError:  # the lines of the log are worth more than the place
        return None

"""`…/live`: the parts of a page that have changed, as server-sent events with HTML, at most four times in a second.

A stream has no memory of its client: the id of an event is the digest of all that the page shows. A client that comes
with the present digest gets nothing, any other one the page's parts.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.status_line import facts_of, status_of
from broadway.domain.waiting_time import Wait
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.connection import ABORT
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, Load, takes
from broadway.ingest.live.run_changes import TooManyWatchersError
from broadway.ingest.ui.job_page import JobPage, own_job
from broadway.ingest.ui.job_page import page_of as page_of_job
from broadway.ingest.ui.regrades import RegradePage
from broadway.ingest.ui.regrades import page_of as page_of_regrade
from broadway.ingest.ui.run_rows import html_of
from broadway.ingest.ui.runs import RunPage, filter_of, page_of_table
from broadway.ingest.ui.runs import page_of as page_of_run
from broadway.ingest.ui.security import secret_of
from broadway.ingest.ui.templating import rendered, session_in
from broadway.ports import StoreError
from broadway.service import background

log = structlog.get_logger(__name__)

PAUSE = 0.25  # seconds between two events of a stream, at least
RUN_PAUSE = 1.0  # seconds between two events of a run, at least
CHECK_SESSION = 10.0  # seconds between two checks of a session, at least
REGRADE_PAUSE = 2.0  # seconds between two looks at a regrade
KEEP_ALIVE = 20.0  # seconds
LONGEST = 30 * 60.0  # seconds of one stream; the client begins another one
SEND_TIMEOUT = 30.0  # seconds without reading after which a client is disconnected
MAX_EVENTS = 20  # of one page, for clients with different earlier parts
ROW = "j-"  # the beginning of the ids of rows
TOO_MANY = "too many runs are being watched; this page shows the run as it was, and tries again by itself"
RETRY_AFTER = 10  # seconds
RETRY = b"retry: 2000\n\n"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Content-Type": "text/event-stream"}


class Parts:
    """The parts of a page as HTML by element id; ``is_last``: nothing changes any more. Streams share them.

    They share the events, too: most clients of one page have the same earlier parts.
    """

    def __init__(self, by_id: dict[str, str], *, is_last: bool = False) -> None:
        self.by_id = by_id
        self.is_last = is_last
        self.digests = {name: _digest(html) for name, html in by_id.items()}
        self.whole = _digest("".join(f"{name}{digest}" for name, digest in sorted(self.digests.items())))
        self._events: dict[tuple[str, bool], bytes] = {}

    def since(self, known: str, digests: Mapping[str, str]) -> bytes:
        """Return the event for a client whose parts have these digests; ``known`` is the digest of all its parts.

        It is empty if the client has the present ones.
        """
        key = (known, bool(digests))
        if key not in self._events:
            if len(self._events) >= MAX_EVENTS:
                self._events.clear()
            self._events[key] = self._event([name for name in self.by_id if digests.get(name) != self.digests[name]])
        return self._events[key]

    def _event(self, changed: Sequence[str]) -> bytes:
        if not changed:
            return b""
        html = "\n".join(self.by_id[name] for name in changed if not name.startswith(ROW))
        if rows := "".join(self.by_id[name] for name in changed if name.startswith(ROW)):
            html += f"<table>{rows}</table>"  # parsers drop rows outside of a table
        data = "".join(f"data: {line}\n" for line in html.split("\n"))
        return f"id: {self.whole}\nevent: parts\n{data}\n".encode()


@dataclass(slots=True)
class Sent:
    """The parts that a client has: those of its last event, or of the page that it names."""

    known: str
    digests: dict[str, str] = field(default_factory=dict)

    def event(self, parts: Parts) -> bytes:
        """Return the event with the parts that have changed; empty if the client has all of them."""
        known, digests = self.known, self.digests
        self.known, self.digests = parts.whole, parts.digests
        return b"" if known == parts.whole else parts.since(known, digests)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


@takes(Auth.COURSE, Auth.STUDENT)
async def of_job(request: Request, deps: Deps) -> Response:
    """Stream the page of a job until the job has ended."""
    own = await own_job(request, deps)

    async def parts() -> AsyncGenerator[Parts]:
        async with deps.feed.watch(own.job) as watcher:
            found = await _read(request, deps)
            while not found.job.is_terminal:
                yield _parts_of_job(request, found)
                update = await watcher.next()
                if update is None:
                    break
                # The position is all that has changed: all jobs of the course share the read for its wait.
                if isinstance(update, int):
                    wait = await deps.reads.waiting.wait(found.job.course, update)
                    found = _moved(found, update, wait)
                else:
                    found = await _read(request, deps)
                await asyncio.sleep(PAUSE)
        yield _parts_of_job(request, await _read(request, deps))

    return Stream(request, deps, parts)


async def _read(request: Request, deps: Deps) -> JobPage:
    """Read a job in turn: an event may concern hundreds of watchers."""
    async with deps.shares.turn(Load.SMALL):
        return await page_of_job(request, deps, await own_job(request, deps))


def _moved(found: JobPage, ahead: int, wait: Wait | None) -> JobPage:
    return replace(found, status=status_of(facts_of(found.job, ahead=ahead, wait=wait), found.role))


def _parts_of_job(request: Request, found: JobPage) -> Parts:
    values = {"view": found, "session": session_in(request), "here": f"/ui/j/{found.job.id}"}
    by_id = {"status": rendered("_job_status.html", **values), "job": rendered("_job.html", **values)}
    return Parts(by_id, is_last=found.job.is_terminal)


@takes(Auth.COURSE, load=Load.SHARED)
async def of_run(request: Request, deps: Deps) -> Response:
    """Stream the counts and the rows of the page of a run until the run is over.

    One read of the run serves all its watchers, and those who look at the same page of it share its parts.
    """
    run = (await page_of_run(request, deps)).table.progress.run  # refuse before the stream begins
    if not deps.run_changes.has_room(run.id):
        raise Refused(503, TOO_MANY, retry_after=RETRY_AFTER)
    wanted = filter_of(request)

    async def parts() -> AsyncGenerator[Parts]:
        async with deps.run_changes.watch(run.course, run.id, "") as watcher:
            while (change := await watcher.next()) is not None:
                found = page_of_table(await deps.reads.run_tables.of_progress(change.shared), wanted)
                yield found.table.form(("parts", wanted), partial(_parts_of_run, found))
                await asyncio.sleep(RUN_PAUSE)

    return Stream(request, deps, parts)


def _parts_of_run(found: RunPage) -> Parts:
    course = found.table.progress.run.course
    here = f"/ui/c/{course}/r/{found.table.progress.run.id}"
    values = {"view": found, "course": course, "here": here}
    by_id = {"status": rendered("_run_status.html", **values), "run": rendered("_run.html", **values)}
    by_id |= {f"{ROW}{row.id}": html_of(row) for row in found.rows.items}
    return Parts(by_id, is_last=found.is_over)


@takes(Auth.COURSE, load=Load.SHARED)
async def of_regrade(request: Request, deps: Deps) -> Response:
    """Stream the page of a regrade until its jobs have ended."""

    async def found() -> RegradePage:
        async with deps.shares.turn(Load.LARGE):
            return await page_of_regrade(request, deps)

    await found()  # refuse before the stream begins

    async def parts() -> AsyncGenerator[Parts]:
        while (view := await found()).is_live:
            yield _parts_of_regrade(request, view)
            await asyncio.sleep(REGRADE_PAUSE)
        yield _parts_of_regrade(request, view)

    return Stream(request, deps, parts)


def _parts_of_regrade(request: Request, view: RegradePage) -> Parts:
    values = {"view": view, "session": session_in(request), "here": view.base, "key": view.regrade.id}
    by_id = {"status": rendered("_regrade_status.html", **values), "regrade": rendered("_regrade.html", **values)}
    return Parts(by_id, is_last=not view.is_live)


class _Gone(Exception):  # noqa: N818 - an end, not an error
    """The client has disconnected."""


class Stream(Response):
    """A response with the changes of a page. It ends with ``end`` once nothing changes any more."""

    def __init__(self, request: Request, deps: Deps, parts: Callable[[], AsyncGenerator[Parts]]) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["Content-Length"]
        self._deps = deps
        self._parts = parts
        self._known = request.headers.get("last-event-id") or request.query_params.get("since", "")
        self._secret = secret_of(request)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await _write(send, b"", more=False)
            return
        try:
            async with background(_until_gone(receive)):
                await self._publish(send)
        except* _Gone:
            pass
        except* TimeoutError:
            log.warning("watcher of a page reads nothing")
            scope["extensions"][ABORT]()

    async def _publish(self, send: Any) -> None:
        await _write(send, RETRY)
        sent, queue = Sent(self._known), asyncio.Queue[Parts | None](1)
        over = asyncio.get_running_loop().time() + LONGEST
        async with background(self._read(queue)):
            while asyncio.get_running_loop().time() < over:
                try:
                    async with asyncio.timeout(KEEP_ALIVE):
                        parts = await queue.get()
                except TimeoutError:
                    await _write(send, b":\n\n")
                    continue
                if parts is None:
                    break
                if event := sent.event(parts):
                    await _write(send, event)
                if parts.is_last:
                    await _write(send, b"event: end\ndata: -\n\n")
                    break
        await _write(send, b"", more=False)

    async def _read(self, queue: "asyncio.Queue[Parts | None]") -> None:
        """Put the parts into a queue; None if the client must begin again, as after the end of its session."""
        loop = asyncio.get_running_loop()
        try:
            async with contextlib.aclosing(self._parts()) as found:
                checked = loop.time()
                async for parts in found:
                    if loop.time() - checked >= CHECK_SESSION:
                        checked = loop.time()
                        if await self._deps.sign_in.find(self._secret) is None:
                            break
                    if self._deps.is_stopping:
                        break
                    await queue.put(parts)
        except (StoreError, Refused, TooManyWatchersError) as error:
            log.info("page not followed any more", reason=str(error))
        await queue.put(None)
        await asyncio.Event().wait()


async def _until_gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _Gone


async def _write(send: Any, chunk: bytes, *, more: bool = True) -> None:
    async with asyncio.timeout(SEND_TIMEOUT):
        await send({"type": "http.response.body", "body": chunk, "more_body": more})

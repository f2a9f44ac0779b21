"""`/runs/…/changes`: a run as server-sent events, one for each change."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.progress import JobProgress, RunProgress
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.event_stream import EventStream, Source, event
from broadway.ingest.http.rights import READERS
from broadway.ingest.http.scope import own_run
from broadway.ingest.live.run_changes import RunChange, RunWatcher
from broadway.ingest.v2.openapi import operation, query_of
from broadway.ingest.v2.views.runs import run_detail

FULL = "too many runs are being watched; try again later, or poll the run"
RETRY_AFTER = 10  # seconds


class ChangesQuery(BaseModel):
    """The query of a run's changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: str | None = Field(
        default=None, max_length=40, description="the id of the last event that the client has, as `Last-Event-ID`"
    )


@operation(
    None, query=ChangesQuery, auth=READERS, headers={"Last-Event-ID": "the id of the last event that the client has"}
)
async def stream(request: Request, deps: Deps) -> Response:
    """Watch a run as server-sent events, until it is over.

    Each `run` event has the `run`, as `GET` returns it, and the `jobs` that have changed since the client's last event,
    each with `id`, `phase`, `state` and `outcome`. `jobs` is null at first, after a long break, and if very many have
    changed: then the client reads the list of jobs.
    """
    run = await own_run(request, deps, missing=404)
    known = query_of(request, ChangesQuery).after or request.headers.get("last-event-id") or ""
    if not deps.run_changes.has_room(run.id):
        raise Refused(503, FULL, retry_after=RETRY_AFTER)
    course = course_of(request).id
    return EventStream(lambda: _source(deps, course, run.id, known))


@dataclass(frozen=True, slots=True)
class _Source:
    watcher: RunWatcher

    async def next(self) -> bytes | None:
        change = await self.watcher.next()
        return None if change is None else _event(change)


@contextlib.asynccontextmanager
async def _source(deps: Deps, course: str, run_id: str, known: str) -> AsyncIterator[Source]:
    async with deps.run_changes.watch(course, run_id, known) as watcher:
        yield _Source(watcher)


def _event(change: RunChange) -> bytes:
    """Return an event, whose JSON all watchers with the same last event share."""
    name = f"changes of {hash(change.changed)}"
    form = change.shared.form(name, lambda progress: _data(progress, change.changed))
    return event("run", form.body.decode(), change.fingerprint)


def _data(progress: RunProgress, changed: tuple[str, ...] | None) -> bytes:
    some = frozenset(changed or ())
    jobs = None if changed is None else [_job(job) for job in progress.jobs if job.id in some]
    return f'{{"run":{run_detail(progress).model_dump_json()},"jobs":{json.dumps(jobs)}}}'.encode()


def _job(job: JobProgress) -> dict[str, str | None]:
    return {"id": job.id, "phase": job.phase, "state": job.state, "outcome": job.outcome}

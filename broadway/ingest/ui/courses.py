"""`/ui` and `/ui/c/…`: the visitor's home, and a course with its runs and the failures of its latest ones."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind
from broadway.domain.pages import CursorError, Slice
from broadway.domain.run import Run
from broadway.domain.status_line import StatusLine
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, Load, takes
from broadway.ingest.reads.run_filters import Summary, summary_of
from broadway.ingest.ui.charts import Bar, count_bars
from broadway.ingest.ui.endpoint import redirected, visitor
from broadway.ingest.ui.live import Parts, Stream
from broadway.ingest.ui.runs import status_of_run
from broadway.ingest.ui.templating import page, rendered

RUNS = 20  # on one page
LOOKED_INTO = 6  # latest runs whose failures are grouped
MOST_CAUSES = 10
MOST_ASSIGNMENTS = 200
PAUSE = 2.0  # seconds between two looks of a stream
MOST_ROWS = 5000  # of all tables on one page; runs beyond that have no counts


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run in the list of a course."""

    run: Run
    status: StatusLine
    summary: Summary | None = None
    bars: Sequence[Bar] = ()

    @property
    def is_over(self) -> bool:
        return self.run.state.is_terminal and self.run.order is None


@dataclass(frozen=True, slots=True)
class Cause:
    """Jobs of one run that ended alike: the status, the reason, and their number."""

    run: Run
    word: str
    cause: str
    count: int


@takes(Auth.COURSE, Auth.STUDENT, Auth.OPERATOR)
async def home(request: Request, _: Deps) -> Response:
    """Lead to the page that a visitor begins with."""
    session = visitor(request)
    if session.kind is Kind.STUDENT:
        return redirected("/ui/me")
    if session.kind is Kind.OPERATOR:
        return redirected("/ui/ops")
    if len(session.courses) == 1:
        return redirected(f"/ui/c/{session.courses[0]}")
    return page(request, "home.html", courses=session.courses)


@takes(Auth.COURSE, load=Load.SHARED)
async def show(request: Request, deps: Deps) -> Response:
    """Show a course: what runs, its latest runs, and their failures by cause."""
    course = course_of(request).id
    after = request.query_params.get("after")
    try:
        found = await deps.reads.runs.latest(course, after=after, limit=RUNS)
    except CursorError:
        found = await deps.reads.runs.latest(course, after=None, limit=RUNS)
    return page(request, "course.html", is_latest=after is None, **await _values(deps, course, found, {}))


@takes(Auth.COURSE, load=Load.SHARED)
async def live(request: Request, deps: Deps) -> Response:
    """Stream the latest runs of a course, and their failures by cause."""
    course = course_of(request).id

    async def parts() -> AsyncGenerator[Parts]:
        over: dict[str, ShownRun] = {}
        while True:
            async with deps.shares.turn(Load.SMALL):
                found = await deps.reads.runs.latest(course, after=None, limit=RUNS)
            values = await _values(deps, course, found, over)
            over = {each.run.id: each for each in values["runs"] if each.is_over}
            yield Parts({"work": rendered("_course.html", **values)})
            await asyncio.sleep(PAUSE)

    return Stream(request, deps, parts)


async def _values(deps: Deps, course: str, found: Slice[Run], over: Mapping[str, ShownRun]) -> dict[str, Any]:
    """Return all that the page shows of some runs; those in ``over`` are not read again if they are unchanged."""
    shown = await _shown(deps, course, found.items, over)
    names = await deps.reads.assignments.names(course, after=None, limit=MOST_ASSIGNMENTS)
    causes = _causes(shown[:LOOKED_INTO])
    return {"course": course, "runs": shown, "next": found.next, "assignments": names.items, "causes": causes}


async def _shown(deps: Deps, course: str, runs: Sequence[Run], over: Mapping[str, ShownRun]) -> list[ShownRun]:
    shown, rows = [], 0
    for run in runs:
        if (known := over.get(run.id)) and known.run == run:
            shown.append(known)
            continue
        table = await deps.reads.run_tables.of_run(course, run.id) if rows < MOST_ROWS else None
        if table is None:
            shown.append(ShownRun(run, status_of_run(run)))
            continue
        rows += len(table.rows)
        summary = table.form("summary", partial(summary_of, table.rows))
        status = status_of_run(run, table.progress)
        shown.append(ShownRun(run, status, summary, count_bars(summary.counts, summary.total)))
    return shown


def _causes(shown: Sequence[ShownRun]) -> list[Cause]:
    """Return the most frequent causes of jobs without a grade."""
    found = [
        Cause(each.run, word, cause, count)
        for each in shown
        if each.summary
        for word, cause, count in each.summary.causes
    ]
    return sorted(found, key=lambda cause: -cause.count)[:MOST_CAUSES]

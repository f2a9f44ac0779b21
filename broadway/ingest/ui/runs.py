"""`/ui/c/…/r/…`: a run with its counts, its scores, and 100 of its rows; the filters are in the address."""

from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, get_args
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.pages import NumberedPage
from broadway.domain.progress import RunProgress
from broadway.domain.run import NothingToDoError, Run, RunState
from broadway.domain.status_line import StatusLine, Tone
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, Load, takes
from broadway.ingest.http.scope import own_run
from broadway.ingest.reads.run_filters import Filter, Sort, Summary, rows_of, summary_of, words_of_filter
from broadway.ingest.reads.run_tables import RunRow, RunTable
from broadway.ingest.ui.beside import actions_on
from broadway.ingest.ui.charts import columns, count_bars
from broadway.ingest.ui.endpoint import NOTHING_HERE, redirected
from broadway.ingest.ui.forms import form_of
from broadway.ingest.ui.run_rows import html_of
from broadway.ingest.ui.templating import page

MAX_WORD = 300  # characters of a filter
MAX_PAGE = 100_000


@dataclass(frozen=True, slots=True)
class RunPage:
    """All that the page of a run shows."""

    table: RunTable
    summary: Summary
    rows: NumberedPage[RunRow]
    wanted: Filter
    status: StatusLine
    bars: Any
    columns: Any

    def link(self, **changes: Any) -> str:
        """Return the address of the page with a changed filter; it begins at the first page again."""
        given = words_of_filter(replace(self.wanted, **{"page": 1, **changes}))
        return f"?{urlencode(given)}" if given else "?"

    @property
    def is_filtered(self) -> bool:
        return bool(words_of_filter(replace(self.wanted, page=1, sort="student")))

    @property
    def is_over(self) -> bool:
        run = self.table.progress.run
        return run.state.is_terminal and run.order is None


def filter_of(request: Request) -> Filter:
    """Return the filter in an address; values that cannot be read are left out."""
    given = {name: value[:MAX_WORD] for name, value in request.query_params.items()}
    number = given.get("page", "1")
    sort = given.get("sort", "student")
    return Filter(
        find=given.get("find", "").strip(),
        outcome=given.get("outcome", ""),
        score=_score(given.get("score", "")),
        grader=given.get("grader", ""),
        test=given.get("test", ""),
        cause=given.get("cause", ""),
        sort=sort if sort in get_args(Sort) else "student",  # type: ignore[arg-type]
        page=min(MAX_PAGE, max(1, int(number[:6]))) if number.isascii() and number.isdecimal() else 1,
    )


def _score(text: str) -> Decimal | None:
    try:
        value = Decimal(text[:20])
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


async def page_of(request: Request, deps: Deps) -> RunPage:
    """Return the contents of the page of a run.

    Raises:
        Refused: 404, the course has no such run.
    """
    table = await deps.reads.run_tables.of_run(course_of(request).id, request.path_params["run_id"])
    if table is None:
        raise Refused(404, NOTHING_HERE)
    return page_of_table(table, filter_of(request))


def page_of_table(table: RunTable, wanted: Filter) -> RunPage:
    """Return the contents of the page of a table; all who look at the same page of it share them."""
    return table.form(("page", wanted), lambda: _made(table, wanted))


def _made(table: RunTable, wanted: Filter) -> RunPage:
    summary = table.form("summary", lambda: summary_of(table.rows))
    return RunPage(
        table=table,
        summary=summary,
        rows=rows_of(table.rows, wanted),
        wanted=wanted,
        status=status_of_run(table.progress.run, table.progress),
        bars=count_bars(summary.counts, summary.total),
        columns=columns(summary.histogram),
    )


def status_of_run(run: Run, progress: RunProgress | None = None) -> StatusLine:
    """Return the status of a run; without its progress, one that is not over counts as running."""
    if run.order is not None:
        return StatusLine(Tone.RUNNING, f"{run.order.kind.value} under way")
    if run.state is RunState.FAILED:
        return StatusLine(Tone.OURS, "failed", next(iter(progress.reasons.values()), "") if progress else "")
    if run.is_ungraded:
        return StatusLine(Tone.OURS, "error on our side", "Every job failed on our side.")
    if run.state is RunState.FINISHED:
        return StatusLine(Tone.GOOD, "finished")
    if progress is None or any(job.started_at for job in progress.jobs):
        return StatusLine(Tone.RUNNING, "running")
    return StatusLine(Tone.WAITING, "queued")


@takes(Auth.COURSE, load=Load.SHARED)
async def show(request: Request, deps: Deps) -> Response:
    """Show a run."""
    course, view = course_of(request).id, await page_of(request, deps)
    actions = await actions_on(deps, course, "run", request.path_params["run_id"], shared=True)
    return page(request, "run.html", view=view, course=course, actions=actions, row_html=html_of)


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present state of the run."""
    run = await own_run(request, deps, missing=404)
    return {"id": run.id, "state": run.state.slug, "round": run.round}


@takes(Auth.COURSE, before=_before, operation="ui.rerunRun")
async def rerun(request: Request, deps: Deps) -> Response:
    """Run the jobs again that ended without success."""
    await form_of(request)
    run = await own_run(request, deps, missing=404)
    try:
        await deps.reruns.start(run, failed=True)
    except NothingToDoError as error:
        raise Refused(409, str(error)) from error
    return _back(request)


@takes(Auth.COURSE, before=_before, operation="ui.cancelRun")
async def cancel(request: Request, deps: Deps) -> Response:
    """Cancel a run, after the page has asked again."""
    form = await form_of(request)
    run = await own_run(request, deps, missing=404)
    if form.get("sure") != "yes":
        raise Refused(422, "tick the box beside the button to cancel the run")
    await deps.orders.cancel(run.id, "cancelled by the course staff")
    return _back(request)


def _back(request: Request) -> Response:
    return redirected(f"/ui/c/{course_of(request).id}/r/{request.path_params['run_id']}")

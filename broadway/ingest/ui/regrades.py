"""`/ui/c/…/regrades`: regrades of a course, and one with the difference that it makes; start, publish, discard it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from secrets import token_hex
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.json_bodies import check
from broadway.domain.pages import ROWS, pages_of
from broadway.domain.regrade import MAX_NOTE, Regrade, RegradeOrder
from broadway.domain.regrade_diff import Diff, Row
from broadway.domain.regrade_terms import Category, Publish, RegradeState, Select
from broadway.domain.status_line import StatusLine, Tone
from broadway.ingest.commands.regrade import RegradePublication
from broadway.ingest.http import scope
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, Load, nothing, takes, unchanged
from broadway.ingest.reads.regrades import Progress
from broadway.ingest.ui.beside import actions_on
from broadway.ingest.ui.endpoint import NOTHING_HERE, redirected, visitor
from broadway.ingest.ui.forms import form_of, lists_of, number_in
from broadway.ingest.ui.grades import MAX_FORM, key_in
from broadway.ingest.ui.templating import page
from broadway.messages.resources.regrades import RegradePublish, RegradeStart

MOST_ASSIGNMENTS = 100
MOST_FIELDS = 5_000  # of the form with the ticked students
MAX_CHOICE = 2**20  # bytes of it
LATEST = 5  # regrades of each assignment
WAITS = (RegradeState.DRAFT, RegradeState.RUNNING)
COMPARED = (RegradeState.READY, RegradeState.STALE, RegradeState.PUBLISHED)
CATEGORIES: Mapping[Category, StatusLine] = {
    Category.INFRA_ERROR: StatusLine(Tone.OURS, "error on our side", "there is nothing to compare"),
    Category.NEWLY_UNGRADABLE: StatusLine(Tone.STUDENT, "not gradable any more"),
    Category.DOWN: StatusLine(Tone.STUDENT, "down"),
    Category.UP: StatusLine(Tone.GOOD, "up"),
    Category.TESTS_CHANGED: StatusLine(Tone.NEUTRAL, "other tests", "for the same points"),
    Category.NEWLY_GRADABLE: StatusLine(Tone.GOOD, "gradable now"),
    Category.LATE_CHANGED: StatusLine(Tone.NEUTRAL, "other late days", "for the same points"),
    Category.SAME: StatusLine(Tone.NEUTRAL, "same"),
    Category.STALE: StatusLine(Tone.WAITING, "stale", "changed since the regrade ran"),
    Category.LEFT_COURSE: StatusLine(Tone.NEUTRAL, "left the course"),
}
_STATES: Mapping[RegradeState, StatusLine] = {
    RegradeState.DRAFT: StatusLine(Tone.WAITING, "being planned", "Its jobs start within moments."),
    RegradeState.RUNNING: StatusLine(Tone.RUNNING, "running", "Students see nothing of it."),
    RegradeState.READY: StatusLine(Tone.GOOD, "ready", "Compare, then publish or discard it."),
    RegradeState.STALE: StatusLine(Tone.WAITING, "stale", "The class has changed since it ran: refresh it."),
    RegradeState.PUBLISHED: StatusLine(Tone.GOOD, "published"),
    RegradeState.DISCARDED: StatusLine(Tone.NEUTRAL, "discarded", "The grades are as they were."),
}


@dataclass(frozen=True, slots=True)
class RegradePage:
    """All that the page of a regrade shows."""

    course: str
    regrade: Regrade
    progress: Progress
    diff: Diff | None
    category: Category | None
    number: int
    chosen: frozenset[str] = frozenset()  # students who are ticked, on any page
    given: Mapping[str, str] = field(default_factory=dict)  # the other fields of the form so far

    @property
    def base(self) -> str:
        """The address of the regrade."""
        return f"/ui/c/{self.course}/regrades/{self.regrade.id}"

    @property
    def is_live(self) -> bool:
        """True while its jobs have not ended."""
        return self.regrade.state in WAITS

    @property
    def state(self) -> RegradeState:
        """Its state, which is stale as soon as the class has changed."""
        is_ready = self.regrade.state is RegradeState.READY
        return RegradeState.STALE if is_ready and self.diff and self.diff.is_stale else self.regrade.state

    @property
    def status(self) -> StatusLine:
        """Its status."""
        return _STATES[self.state]

    @property
    def counts(self) -> Sequence[tuple[Category, StatusLine, int]]:
        """The number of students by category, the worst first."""
        found = self.diff.counts if self.diff else {}
        return [(each, CATEGORIES[each], found[each]) for each in Category if found.get(each)]

    @property
    def wanted(self) -> Sequence[Row]:
        """The rows of the chosen category, or all."""
        return [row for row in (self.diff.rows if self.diff else ()) if self.category in (None, row.category)]

    @property
    def pages(self) -> int:
        """The number of pages of rows."""
        return pages_of(len(self.wanted))

    @property
    def rows(self) -> Sequence[tuple[Row, StatusLine]]:
        """The rows of the page."""
        some = self.wanted[(self.number - 1) * ROWS : self.number * ROWS]
        return [(row, CATEGORIES[row.category]) for row in some]

    @property
    def elsewhere(self) -> Sequence[str]:
        """The ticked students on other pages."""
        here = {row.student for row, _ in self.rows}
        known = {row.student for row in self.diff.rows} if self.diff else set()
        return sorted((self.chosen & known) - here)

    def link(self, category: Category | None, number: int = 1) -> str:
        """Return the address of the page with the rows of a category."""
        given = {"category": category or "", "page": number if number > 1 else ""}
        return f"?{urlencode({name: value for name, value in given.items() if value})}"


own_regrade = partial(scope.own_regrade, otherwise=NOTHING_HERE)


async def page_of(request: Request, deps: Deps) -> RegradePage:
    """Return the contents of the page of a regrade."""
    regrade = await own_regrade(request, deps)
    wanted = request.query_params.get("category", "")
    return RegradePage(
        course=regrade.course,
        regrade=regrade,
        progress=await deps.reads.regrades.progress(regrade),
        diff=await deps.reads.regrades.recent_diff(regrade) if regrade.state in COMPARED else None,
        category=Category(wanted) if wanted in list(Category) else None,
        number=max(1, number_in(request.query_params.get("page", "")) or 1),
    )


@takes(Auth.COURSE, load=Load.LARGE)
async def show(request: Request, deps: Deps) -> Response:
    """Show a regrade: its progress, then the difference that it makes."""
    view, name = await page_of(request, deps), request.path_params["regrade"]
    actions = await actions_on(deps, course_of(request).id, "regrade", name)
    return page(request, "regrade.html", view=view, key=token_hex(8), actions=actions)


@takes(Auth.COURSE, load=Load.LARGE)
async def list_regrades(request: Request, deps: Deps) -> Response:
    """Show the latest regrades of each assignment, and the form that starts one."""
    course = course_of(request).id
    names = (await deps.reads.assignments.names(course, after=None, limit=MOST_ASSIGNMENTS)).items
    found = [
        each
        for name in names
        for each in (await deps.reads.regrades.latest(course, name, after=None, limit=LATEST)).items
    ]
    found.sort(key=lambda each: each.created_at, reverse=True)
    shown = [(each, _STATES[each.state]) for each in found]
    chosen = request.query_params.get("assignment", "")
    return page(
        request,
        "regrades.html",
        course=course,
        assignments=names,
        regrades=shown,
        chosen=chosen,
        key=token_hex(8),
    )


@takes(Auth.COURSE, before=nothing, operation="ui.startRegrade")
async def start(request: Request, deps: Deps) -> Response:
    """Start a regrade of an assignment with its present config."""
    course, form = course_of(request), await form_of(request, limit=MAX_FORM)
    assignment = form.get("assignment", "")
    if await deps.reads.assignments.config(course.id, assignment) is None:
        raise Refused(422, "assignment: choose an assignment of this course")
    control = form.get("control_percent", "").strip()
    fields = {
        "select": form.get("select", "latest"),
        "reason": form.get("reason", "").strip(),
        "control_percent": (number_in(control) or 0) if control else None,
    }
    body = check(fields, RegradeStart)
    order = RegradeOrder(Select(body.select), (), body.control_percent, body.reason)
    by = visitor(request).name
    regrade, _ = await deps.grades.regrades.start(course, assignment, order, by=by, key=key_in(form))
    return redirected(f"/ui/c/{course.id}/regrades/{regrade.id}")


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present state of the regrade."""
    regrade = await own_regrade(request, deps)
    return {"id": regrade.id, "assignment": regrade.assignment, "state": regrade.state, "version": regrade.version}


@takes(Auth.COURSE, before=unchanged)
async def choose(request: Request, deps: Deps) -> Response:
    """Show another page of the rows with all that the form has so far, and change nothing."""
    form = await lists_of(request, limit=MAX_CHOICE, most=MOST_FIELDS)
    given = {name: values[-1][:MAX_NOTE] for name, values in form.items()}
    async with deps.shares.turn(Load.LARGE):
        found = await page_of(request, deps)
    view = replace(found, chosen=frozenset(form.get("student", [])), given=given)
    actions = await actions_on(deps, course_of(request).id, "regrade", view.regrade.id)
    return page(request, "regrade.html", view=view, key=key_in(given) or token_hex(8), actions=actions)


@takes(Auth.COURSE, before=_before, operation="ui.publishRegrade")
async def publish(request: Request, deps: Deps) -> Response:
    """Publish the grades of a regrade: all, those that are higher, or those of ticked students."""
    regrade, form = await own_regrade(request, deps), await lists_of(request, limit=MAX_CHOICE, most=MOST_FIELDS)
    given = {name: values[-1] for name, values in form.items()}
    which = given.get("publish", "")
    fields = {
        "publish": which,
        "note": given.get("note", "").strip(),
        "students": form.get("student", []) if which == "chosen" else [],
        "keep_old": given.get("keep_old") == "yes",
    }
    body = check(fields, RegradePublish)
    order = RegradePublication(
        publish=Publish(body.publish),
        note=body.note,
        students=frozenset(body.students),
        keep_old=body.keep_old,
        by=visitor(request).name,
        key=key_in(given),
    )
    await deps.grades.regrades.publish(regrade, order)
    return _back(regrade)


@takes(Auth.COURSE, before=_before, operation="ui.refreshRegrade")
async def refresh(request: Request, deps: Deps) -> Response:
    """Grade those students again whose submissions have changed, or with whose the infrastructure failed."""
    regrade = await own_regrade(request, deps)
    await form_of(request)
    await deps.grades.regrades.refresh(regrade)
    return _back(regrade)


@takes(Auth.COURSE, before=_before, operation="ui.discardRegrade")
async def discard(request: Request, deps: Deps) -> Response:
    """Discard a regrade, after the page has asked again."""
    regrade, form = await own_regrade(request, deps), await form_of(request)
    if form.get("sure") != "yes":
        raise Refused(422, "tick the box beside the button to discard the regrade")
    await deps.grades.regrades.discard(regrade, by=visitor(request).name)
    return _back(regrade)


def _back(regrade: Regrade) -> Response:
    return redirected(f"/ui/c/{regrade.course}/regrades/{regrade.id}")

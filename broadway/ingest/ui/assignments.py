"""`/ui/c/…/a/…`: an assignment: its pipelines, its rules in words, its extensions and its latest runs; start one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.assignment_settings import SettingsVersion
from broadway.domain.extension import MAX_EXTENSIONS, ExtensionOrder, Target
from broadway.domain.json_bodies import check
from broadway.domain.run import Run
from broadway.domain.settings_words import sentences_of
from broadway.domain.status_line import StatusLine
from broadway.ingest.commands.start import RunOrder
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, Load, nothing, takes
from broadway.ingest.reads.assignments import AssignmentDetail
from broadway.ingest.reads.extensions import StoredExtension
from broadway.ingest.ui.beside import actions_on
from broadway.ingest.ui.endpoint import NOTHING_HERE, redirected, visitor
from broadway.ingest.ui.forms import form_of, number_in
from broadway.ingest.ui.grades import key_in
from broadway.ingest.ui.runs import status_of_run
from broadway.ingest.ui.templating import page

RUNS = 10  # latest ones
CHANGES = 5  # latest ones of the settings
EXTENSIONS = 100  # latest ones
PIPELINES = (
    ("before the students", "pre_processing_pipeline"),
    ("for each student", "student_pipeline"),
    ("after the students", "post_processing_pipeline"),
)


@dataclass(frozen=True, slots=True)
class AssignmentPage:
    """All that the page of an assignment shows."""

    course: str
    detail: AssignmentDetail
    settings: SettingsVersion
    changes: Sequence[SettingsVersion]
    extensions: Sequence[StoredExtension]
    extensions_left: int
    runs: Sequence[tuple[Run, StatusLine]]

    @property
    def base(self) -> str:
        """The address of the assignment."""
        return f"/ui/c/{self.course}/a/{self.detail.name}"

    @property
    def sentences(self) -> Sequence[str]:
        """The settings in words."""
        return sentences_of(self.settings.settings)

    @property
    def pipelines(self) -> Sequence[tuple[str, Sequence[Mapping[str, Any]]]]:
        """The pipelines that have stages, with their names."""
        found = [(name, self.detail.config.get(key) or ()) for name, key in PIPELINES]
        return [(name, stages) for name, stages in found if stages]

    @property
    def variables(self) -> Sequence[str]:
        """The names of the variables of all stages; their values may be secrets."""
        return sorted(self.detail.config.get("env") or {})


@takes(Auth.COURSE, load=Load.LARGE)
async def show(request: Request, deps: Deps) -> Response:
    """Show an assignment."""
    course, name = course_of(request).id, request.path_params["assignment"]
    detail = await deps.reads.assignments.detail(course, name)
    if detail is None:
        raise Refused(404, NOTHING_HERE)
    changes = await deps.reads.assignments.settings_versions(course, name, after=None, limit=CHANGES)
    found = await deps.reads.extensions.page(course, name, in_force=True, after=None, limit=MAX_EXTENSIONS)
    runs = await deps.reads.runs.latest(course, assignment=name, after=None, limit=RUNS)
    view = AssignmentPage(
        course=course,
        detail=detail,
        settings=await deps.reads.assignments.settings(course, name),
        changes=changes.items,
        extensions=found.items[::-1][:EXTENSIONS],
        extensions_left=max(0, len(found.items) - EXTENSIONS),
        runs=[(run, status_of_run(run)) for run in runs.items],
    )
    actions = await actions_on(deps, course, "assignment", name)
    return page(request, "assignment.html", view=view, course=course, key=token_hex(8), actions=actions)


@takes(Auth.COURSE, before=nothing, operation="ui.startRun")
async def start(request: Request, deps: Deps) -> Response:
    """Start a run for the whole roster, and go on to its page."""
    course, form = course_of(request), await form_of(request)
    if form.get("sure") != "yes":
        raise Refused(422, "tick the box beside the button to start a run for all students")
    assignment, trace = request.path_params["assignment"], request.state.traceparent
    run = await deps.starts.start_over_roster(
        course, assignment, RunOrder(students="all"), key=key_in(form), traceparent=trace
    )
    return redirected(f"/ui/c/{course.id}/r/{run.id}")


@takes(Auth.COURSE, before=nothing, operation="ui.addExtension")
async def extend(request: Request, deps: Deps) -> Response:
    """Add an extension for a student, a group, or all students with a label."""
    course, form = course_of(request).id, await form_of(request)
    given = {name: form.get(name, "").strip() for name in ("target", "name", "due", "closes", "add_days", "reason")}
    days = number_in(given["add_days"] or "0")
    if days is None:
        raise Refused(422, "add_days: expected a number of days")
    fields: dict[str, Any] = {name: value for name, value in given.items() if value} | {"add_days": days}
    order = check(fields, ExtensionOrder)
    if order.is_empty:
        raise Refused(422, "due: give a later due time, a later end, or days to add")
    await deps.grades.extensions.add(course, request.path_params["assignment"], order, by=visitor(request).name)
    return _back(request)


@takes(Auth.COURSE, before=nothing, operation="ui.withdrawExtension")
async def withdraw(request: Request, deps: Deps) -> Response:
    """Withdraw the extension of a target; it stays in the history of the student."""
    course, form = course_of(request).id, await form_of(request)
    fields = {name: form.get(name, "").strip() for name in ("target", "name", "reason")}
    order = check(fields, ExtensionOrder)
    await deps.grades.extensions.withdraw(
        course,
        request.path_params["assignment"],
        Target(order.target),
        order.name,
        reason=order.reason,
        by=visitor(request).name,
    )
    return _back(request)


def _back(request: Request) -> Response:
    return redirected(f"/ui/c/{course_of(request).id}/a/{request.path_params['assignment']}#extensions")

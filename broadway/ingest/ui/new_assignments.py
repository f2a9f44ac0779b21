"""`/ui/c/…/new` and `…/roster`: an assignment from a file or a pasted text, and its roster from a file."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.assignment import AssignmentConfig
from broadway.domain.assignment_settings import AssignmentSettings
from broadway.domain.json_bodies import InvalidBodyError, parse
from broadway.domain.names import COURSE_ID
from broadway.domain.roster import Roster
from broadway.domain.roster_files import RosterError, read_roster
from broadway.domain.text_files import TextFileError, decode, json_of
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, Load, nothing, takes
from broadway.ingest.http.uploads import MULTIPART, uploaded
from broadway.ingest.ui.beside import Actions, actions_on
from broadway.ingest.ui.endpoint import NOTHING_HERE, redirected, visitor
from broadway.ingest.ui.forms import form_of
from broadway.ingest.ui.refused_forms import shown_again
from broadway.ingest.ui.templating import page

MAX_TEXT = 1024 * 1024  # bytes of a form with a pasted assignment
MAX_FILE = 8 * 1024 * 1024  # bytes
SETTINGS = "settings"  # the key of an assignment's settings in its file, as `broadway assignment apply` takes it
SHOWN = 100  # students of a roster
EXAMPLE = r"""{
  "student_pipeline": [
    {
      "image": "alpine:3",
      "entrypoint": [
        "sh", "-c",
        "cd /job; s=0; test -s submission/main.c && s=1; echo '{\"score\": '$s', \"max_score\": 1}' > results.json"
      ],
      "results": {"format": "gradescope", "path": "results.json"},
      "timeout": 60,
      "memory": "256m",
      "networking": false
    }
  ]
}
"""


@dataclass(frozen=True, slots=True)
class Given:
    """A form that was sent: the name of the assignment, and the text of its file."""

    name: str = ""
    text: str = EXAMPLE


@takes(Auth.COURSE)
async def show(request: Request, _: Deps) -> Response:
    """Show the form for an assignment."""
    return _form(request, Given(name=request.query_params.get("name", "")[:100]))


def _form(request: Request, given: Given, *, problems: Sequence[str] = (), status: int = 200) -> Response:
    return page(request, "new_assignment.html", status, course=course_of(request).id, given=given, problems=problems)


@takes(Auth.COURSE, before=nothing, operation="ui.putAssignment")
async def add(request: Request, deps: Deps) -> Response:
    """Register the pipelines and the settings of a file, as `broadway assignment apply` does."""
    course, given = course_of(request), await _given(request, deps)
    async with shown_again(request, lambda status, problems: _form(request, given, problems=problems, status=status)):
        config, settings = await asyncio.to_thread(_read, given.text)
        await deps.registration.register(course, _checked_name(given.name), config)
        if settings is not None:
            by = visitor(request).name
            await deps.assignment_settings.put(course.id, given.name, settings, by=by, expected=None)
    return redirected(f"/ui/c/{course.id}/a/{given.name}")


async def _given(request: Request, deps: Deps) -> Given:
    """Return the form: one with a file, or one with a text."""
    if not _has_file(request):
        form = await form_of(request, limit=MAX_TEXT)
        return Given(form.get("name", "").strip(), form.get("text", ""))
    fields: dict[str, str] = {}
    text = await _text_of_file(request, deps, fields)
    return Given(fields.get("name", "").strip(), text)


def _has_file(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith(MULTIPART)


async def _text_of_file(request: Request, deps: Deps, fields: dict[str, str]) -> str:
    """Return the text of the only file of a form, and put its other fields into ``fields``.

    Raises:
        Refused: 422, the file is no text.
    """
    async with uploaded(request, deps.settings.http.spool_dir, limit=MAX_FILE, files=1, fields=fields) as files:
        data = await asyncio.to_thread(files[0].read, 0, files[0].size)
    try:
        return await asyncio.to_thread(decode, data)
    except TextFileError as error:
        raise Refused(422, f"file: {error}") from error


def _read(text: str) -> tuple[AssignmentConfig, AssignmentSettings | None]:
    """Return the pipelines and the settings in a text.

    Raises:
        InvalidBodyError: They are not valid; the text has a line for each problem.
    """
    try:
        given = json_of(text)
    except TextFileError as error:
        raise InvalidBodyError(str(error)) from error
    if not isinstance(given, dict):
        raise InvalidBodyError("expected a JSON object with student_pipeline")
    settings = given.pop(SETTINGS, None)
    config = parse(_json(given), AssignmentConfig)
    if settings is None:
        return config, None
    try:
        return config, parse(_json(settings), AssignmentSettings)
    except InvalidBodyError as error:
        raise InvalidBodyError("\n".join(f"{SETTINGS}.{line}" for line in str(error).splitlines())) from error


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _checked_name(name: str) -> str:
    """Return a name that an address can have.

    Raises:
        Refused: 422.
    """
    if not re.fullmatch(COURSE_ID, name):
        raise Refused(422, "name: expected letters, digits, dashes and underscores")
    return name


@dataclass(frozen=True, slots=True)
class RosterPage:
    """The roster of an assignment, or None, and the latest actions on it."""

    course: str
    assignment: str
    roster: Roster | None
    actions: Actions

    @property
    def base(self) -> str:
        """The address of the assignment."""
        return f"/ui/c/{self.course}/a/{self.assignment}"


@takes(Auth.COURSE, load=Load.LARGE)
async def show_roster(request: Request, deps: Deps) -> Response:
    """Show the students of an assignment, with a form for a file."""
    return _roster_form(request, await _roster_page(request, deps))


async def _roster_page(request: Request, deps: Deps) -> RosterPage:
    course, name = course_of(request).id, request.path_params["assignment"]
    if await deps.reads.assignments.config(course, name) is None:
        raise Refused(404, NOTHING_HERE)
    roster = await deps.reads.assignments.roster(course, name)
    return RosterPage(course, name, roster, await actions_on(deps, course, "roster", name))


def _roster_form(
    request: Request, view: RosterPage, typed: str = "", *, problems: Sequence[str] = (), status: int = 200
) -> Response:
    values = {"view": view, "typed": typed, "problems": problems, "most": SHOWN, "course": view.course}
    return page(request, "roster.html", status, **values)


async def _before_roster(request: Request, deps: Deps) -> Any:
    """Return the size of the present roster."""
    roster = (await _roster_page(request, deps)).roster
    return {"students": len(roster.students)} if roster else None


@takes(Auth.COURSE, before=_before_roster, operation="ui.putRoster")
async def put_roster(request: Request, deps: Deps) -> Response:
    """Replace the roster by a file or a typed text: CSV, or JSON in the form of the API."""
    before = await _roster_page(request, deps)
    given = None if _has_file(request) else await _given(request, deps)
    typed = given.text if given else ""
    async with shown_again(
        request, lambda status, problems: _roster_form(request, before, typed, problems=problems, status=status)
    ):
        text = given.text if given else await _text_of_file(request, deps, {})
        try:
            roster = await asyncio.to_thread(read_roster, text, is_json=text.lstrip()[:1] == "{")
        except RosterError as error:
            raise Refused(422, str(error)) from error
        await deps.hook_settings.put_roster(course_of(request), before.assignment, roster)
    return redirected(before.base)

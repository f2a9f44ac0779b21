"""`/assignments/…/settings`: the versions of an assignment's settings."""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.assignment_settings import AssignmentSettings, SettingsVersion
from broadway.ingest.commands.assignment_settings import SettingsChangedError, UnknownAssignmentError
from broadway.ingest.commands.start import NO_SUCH_ASSIGNMENT
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.messages.resources.assignments import SettingsView
from broadway.messages.resources.base import Page

_IF_MATCH = "the `ETag` of the version that the change is based on; any other version is refused with 412"


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present settings."""
    found = await deps.reads.assignments.settings(course_of(request).id, request.path_params["assignment"])
    return found.settings.model_dump(mode="json", exclude_unset=True)


@operation(SettingsView)
async def show(request: Request, deps: Deps) -> Response:
    """Get an assignment's settings; an assignment without settings has version 0, with the defaults."""
    course, assignment = course_of(request).id, request.path_params["assignment"]
    if await deps.reads.assignments.config(course, assignment) is None:
        raise Refused(404, NO_SUCH_ASSIGNMENT)
    return _answer(await deps.reads.assignments.settings(course, assignment))


@operation(SettingsView, body=AssignmentSettings, refusals=(409, 412), headers={"If-Match": _IF_MATCH}, before=_before)
async def put(request: Request, deps: Deps) -> Response:
    """Replace an assignment's settings: the points, and the files that students hand in."""
    course, assignment = course_of(request).id, request.path_params["assignment"]
    expected = _expected(request.headers.get("if-match"))
    settings = await read(request, AssignmentSettings, limit=deps.settings.max_body_size)
    try:
        version = await deps.assignment_settings.put(
            course, assignment, settings, by=principal_of(request).name, expected=expected
        )
    except UnknownAssignmentError:
        raise Refused(404, NO_SUCH_ASSIGNMENT) from None
    except SettingsChangedError as error:
        raise Refused(412 if expected is not None else 409, str(error)) from error
    return _answer(version)


@operation(Page[SettingsView], query=PageQuery)
async def list_versions(request: Request, deps: Deps) -> Response:
    """List the versions of an assignment's settings, latest first."""
    course, assignment = course_of(request).id, request.path_params["assignment"]
    query = query_of(request, PageQuery)
    page = await deps.reads.assignments.settings_versions(course, assignment, after=query.after, limit=query.limit)
    return answered(Page[SettingsView](items=[_view(each) for each in page.items], next=page.next))


def _expected(header: str | None) -> int | None:
    """Return the version in an If-Match header, or None."""
    if header is None or header.strip() == "*":
        return None
    found = re.fullmatch(r'"(\d{1,9})"', header.strip())
    if found is None:
        raise Refused(400, 'If-Match: expected one version in quotes, such as "3"')
    return int(found[1])


def _answer(version: SettingsVersion) -> Response:
    return answered(_view(version), headers={"ETag": f'"{version.version}"'})


def _view(version: SettingsVersion) -> SettingsView:
    return SettingsView(version=version.version, at=version.at, by=version.by, settings=version.settings)

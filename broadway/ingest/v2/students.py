"""`/students/…/export` and `/students/…/deletion`: all that is stored about a student."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.deletion import SharedNameError, UnknownStudentError, replaced
from broadway.domain.json_bodies import InvalidBodyError
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auditing import hide, note_read
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.downloads import streamed
from broadway.ingest.http.rights import Auth, Load, nothing
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views.students import deletion_view
from broadway.messages.resources.students import DeletionRequest, DeletionView
from broadway.runtime.clock import now

MANAGERS = (Auth.COURSE, Auth.OPERATOR)
MAX_STUDENT = 200  # characters
MAX_BODY = 16 * 1024  # bytes
NO_STUDENT = "student: expected a name of at most 200 characters"


@operation(None, auth=MANAGERS, load=Load.LARGE, operation_id="students_export", returns=("application/zip",))
async def export(request: Request, deps: Deps) -> Response:
    """Download all that is stored about a student of the course as a zip; the audit log has a record of it.

    It has JSON lines by kind, the files of submissions and artifacts, and `manifest.json` with the counts.
    """
    course, student = _student(request)
    by = principal_of(request)
    await note_read(request, deps, "students_export")
    content = deps.reads.student_exports.zipped(course, student, by=f"{by.kind.value} {by.name}", now=now())
    return streamed(request, name=f"{course}-{student}.zip", media_type="application/zip", content=content)


@operation(
    DeletionView,
    body=DeletionRequest,
    auth=MANAGERS,
    load=Load.LARGE,
    also={202: DeletionView},
    refusals=(404, 409),
    before=nothing,
)
async def delete(request: Request, deps: Deps) -> Response:
    """Delete all that is stored about a student of the course, or count it in a dry run.

    It is made in the background: get the deletion for its receipt. A repetition answers with the same receipt, unless
    something has been stored about the student since.
    """
    course, student = _student(request)
    pseudonym = await deps.student_deletion.pseudonym(course, student)
    hide(request, lambda text: replaced(text, [student], pseudonym))
    body = await read(request, DeletionRequest, limit=MAX_BODY)
    if not body.dry_run and not body.reason.strip():
        raise InvalidBodyError("reason: expected a text, for the receipt")
    by, requests = principal_of(request), deps.student_deletion
    author = f"{by.kind.value} {by.name}"
    try:
        if body.dry_run:
            counted = await requests.count(course, student, by=author, reason=body.reason)
            return answered(deletion_view(counted, is_dry=True))
        ordered = await requests.order(course, student, by=author, reason=body.reason)
    except SharedNameError as error:
        raise Refused(409, str(error)) from error
    except UnknownStudentError as error:
        raise Refused(404, str(error)) from error
    return answered(deletion_view(ordered), 200 if ordered.ended_at else 202)


@operation(DeletionView, auth=MANAGERS, refusals=(404,))
async def deletion(request: Request, deps: Deps) -> Response:
    """Get the last deletion of a student's data: its receipt once it has ended."""
    course, student = _student(request)
    found = await deps.student_deletion.latest(course, student)
    if found is None:
        raise Refused(404, "no deletion of the student's data was ordered")
    return answered(deletion_view(found))


def _student(request: Request) -> tuple[str, str]:
    """Return the course and the student of a request."""
    student: str = request.path_params["student"]
    if not 0 < len(student) <= MAX_STUDENT:
        raise Refused(404, NO_STUDENT)
    return course_of(request).id, student

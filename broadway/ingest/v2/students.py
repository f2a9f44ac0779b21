"""`/students/…/export`: all that is stored about a student."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auditing import note_read
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.downloads import streamed
from broadway.ingest.http.rights import Auth, Load
from broadway.ingest.v2.openapi import operation
from broadway.runtime.clock import now

MANAGERS = (Auth.COURSE, Auth.OPERATOR)
MAX_STUDENT = 200  # characters
NO_STUDENT = "student: expected a name of at most 200 characters"


@operation(None, auth=MANAGERS, load=Load.LARGE, operation_id="students_export", returns=("application/zip",))
async def export(request: Request, deps: Deps) -> Response:
    """Download all that is stored about a student of the course as a zip; the audit log has a record of it.

    It has JSON lines by kind, the files of submissions and artifacts, and `manifest.json` with the counts.
    """
    course, student = course_of(request).id, request.path_params["student"]
    if not 0 < len(student) <= MAX_STUDENT:
        raise Refused(404, NO_STUDENT)
    by = principal_of(request)
    await note_read(request, deps, "students_export")
    content = deps.reads.student_exports.zipped(course, student, by=f"{by.kind.value} {by.name}", now=now())
    return streamed(request, name=f"{course}-{student}.zip", media_type="application/zip", content=content)

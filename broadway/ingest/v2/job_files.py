"""`/graders/…/jobs/…`: the files of a job's submission, for the grader that has received the job."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.submission import Submission
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import grader_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.downloads import stored_file
from broadway.ingest.http.rights import Auth
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views.submissions import job_files
from broadway.messages.http import TICKET_HEADER
from broadway.messages.resources.submissions import JobFiles

NO_FILES = "this grader has no such job with files"
TICKET = "the job's generation, a colon, and its ticket; a grader behind the gateway needs none"


@operation(JobFiles, auth=Auth.GRADER, refusals=(403,), headers={TICKET_HEADER: TICKET})
async def show(request: Request, deps: Deps) -> Response:
    """List the files of the submission of a job that this grader has received."""
    return answered(job_files(await _received(request, deps)))


@operation(None, auth=Auth.GRADER, refusals=(403, 416), headers={TICKET_HEADER: TICKET})
async def content(request: Request, deps: Deps) -> Response:
    """Get the bytes of a file of the submission of a job that this grader has received; ranges are supported."""
    sha256 = request.path_params["sha256"]
    files = (await _received(request, deps)).files
    file = next((file for file in files if file.sha256 == sha256), None)
    if file is None:
        raise Refused(404, NO_FILES)
    return await stored_file(request, deps, name=sha256, size=file.size, sha256=sha256)


async def _received(request: Request, deps: Deps) -> Submission:
    """Return the submission of the job in the path, if the grader has received it.

    Raises:
        RevokedError: The grader has been revoked.
        Refused: 404.
    """
    grader = grader_of(request)
    if grader is None:
        raise Refused(404, NO_FILES)
    grader.demand_admitted()
    ticket = request.headers.get(TICKET_HEADER, "")
    submission = await deps.reads.job_files.submission(grader, request.path_params["job_id"], ticket)
    if submission is None:
        raise Refused(404, NO_FILES)
    return submission

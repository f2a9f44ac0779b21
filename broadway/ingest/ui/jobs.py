"""`/ui/j/…`: a job and its result, for staff, and for the student whose submission it grades."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.run import NothingToDoError
from broadway.domain.submission import Submission, submission_of
from broadway.domain.visibility import Role
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.downloads import SAFE, stored_file, streamed
from broadway.ingest.http.rights import Auth, takes
from broadway.ingest.ui.beside import actions_on
from broadway.ingest.ui.endpoint import redirected
from broadway.ingest.ui.forms import form_of
from broadway.ingest.ui.job_page import Own, artifacts_of, attempt_of, lines_of, own_job, page_of, report_of
from broadway.ingest.ui.templating import page
from broadway.lifecycle.orders import RUN_NOT_FOUND

READERS = (Auth.COURSE, Auth.STUDENT)


@takes(*READERS)
async def show(request: Request, deps: Deps) -> Response:
    """Show a job: its status, its tests, its log, its files and its attempts."""
    own = await own_job(request, deps)
    found = await page_of(request, deps, own)
    actions = await actions_on(deps, own.course, "job", own.job.id) if own.role is Role.STAFF else None
    return page(request, "job.html", view=found, actions=actions)


@takes(*READERS)
async def download_log(request: Request, deps: Deps) -> Response:
    """Download the log that the reader may see, byte by byte as the program wrote it."""
    own = await own_job(request, deps)
    attempt = attempt_of(request, own.job)
    lines, _ = await lines_of(deps, own, attempt, await report_of(deps, own, attempt))
    if not lines:
        raise Refused(404, "there is no log to download")
    text = "".join(f"{line.text}\n" for _, line in lines)
    headers = {**SAFE, "Content-Disposition": f'attachment; filename="{own.job.id}.log"'}
    return Response(text.encode("utf-8", "replace"), headers=headers, media_type="application/octet-stream")


@takes(*READERS)
async def download_file(request: Request, deps: Deps) -> Response:
    """Download a file of the job's submission."""
    submission = await _submission(deps, await own_job(request, deps))
    file = submission.file(request.path_params["path"])
    if file is None:
        raise Refused(404, "this submission has no such file")
    name = file.path.rpartition("/")[2]
    return await stored_file(request, deps, name=name, size=file.size, sha256=file.sha256)


@takes(*READERS)
async def download_all(request: Request, deps: Deps) -> Response:
    """Download all files of the job's submission as a zip."""
    submission = await _submission(deps, await own_job(request, deps))
    name = f"{submission.assignment}-{submission.student}-{submission.id}.zip"
    return streamed(request, name=name, media_type="application/zip", content=deps.reads.submissions.zipped(submission))


async def _submission(deps: Deps, own: Own) -> Submission:
    identity = submission_of(own.stages)
    found = await deps.reads.submissions.one(own.course, identity) if identity else None
    if found is None:
        raise Refused(404, "this job has no submission")
    return found


@takes(Auth.COURSE)
async def download_artifact(request: Request, deps: Deps) -> Response:
    """Download an artifact of an attempt."""
    own = await own_job(request, deps)
    manifest = await artifacts_of(deps, own.job, attempt_of(request, own.job))
    found = manifest.file(request.path_params["path"]) if manifest else None
    if found is None:
        raise Refused(404, "this attempt of the job has no such artifact")
    name = found.path.rpartition("/")[2]
    return await stored_file(request, deps, name=name, size=found.size, sha256=found.sha256)


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present state of the job."""
    job = (await own_job(request, deps)).job
    return {"id": job.id, "run": job.run_id, "state": job.state, "outcome": job.outcome, "generation": job.generation}


@takes(Auth.COURSE, before=_before, operation="ui.rerunJob")
async def rerun(request: Request, deps: Deps) -> Response:
    """Run a job again, with the config that its run has kept or the current one."""
    form = await form_of(request)
    own = await own_job(request, deps)
    run = await deps.reads.runs.summary(own.course, own.job.run_id)
    if run is None:
        raise Refused(404, RUN_NOT_FOUND)
    try:
        await deps.reruns.start(run, only=[own.job.id], with_current=form.get("config") == "current")
    except NothingToDoError as error:
        raise Refused(409, str(error)) from error
    return redirected(f"/ui/j/{own.job.id}")

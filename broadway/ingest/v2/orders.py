"""`…/cancel` and `…/rerun`: end runs and jobs that exist, or run them again."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.run import NothingToDoError
from broadway.ingest.commands.rerun import Rerunning
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.scope import own_job, own_run
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views.runs import run_fields
from broadway.lifecycle.orders import RUN_NOT_FOUND, Ordered
from broadway.messages.resources.runs import Cancellation, JobRerun, OrderView, Rerun

MAX_BODY = 1024 * 1024  # bytes


async def _run(request: Request, deps: Deps) -> Any:
    """Return the present state of the run."""
    return run_fields(await own_run(request, deps, missing=404))


async def _job(request: Request, deps: Deps) -> Any:
    """Return the present state of the job."""
    job = await own_job(request, deps, missing=404)
    return {"id": job.id, "run": job.run_id, "state": job.state, "outcome": job.outcome, "generation": job.generation}


@operation(OrderView, body=Cancellation, is_body_optional=True, refusals=(404, 409), before=_run)
async def cancel_run(request: Request, deps: Deps) -> Response:
    """Cancel a run: its waiting jobs never start, and its running jobs are killed."""
    run = await own_run(request, deps, missing=404)
    body = await read(request, Cancellation, limit=MAX_BODY, optional=True)
    return _view(await deps.orders.cancel(run.id, body.reason))


@operation(OrderView, body=Rerun, is_body_optional=True, refusals=(404, 409), before=_run)
async def rerun_run(request: Request, deps: Deps) -> Response:
    """Rerun jobs of a run, and then the phases that follow, with the config that the run has kept or the current one.

    Images are named by the config; a grader uses the image that it has under that name.
    """
    run = await own_run(request, deps, missing=404)
    body = await read(request, Rerun, limit=MAX_BODY, optional=True)
    only = None if isinstance(body.jobs, str) else body.jobs
    try:
        rerun = await deps.reruns.start(
            run, only=only, failed=body.jobs == "failed", with_current=body.config == "current"
        )
    except NothingToDoError as error:
        raise Refused(409 if only is None else 404, str(error)) from error
    return _view(rerun.ordered, rerun)


@operation(OrderView, body=Cancellation, is_body_optional=True, refusals=(404, 409), before=_job)
async def cancel_job(request: Request, deps: Deps) -> Response:
    """Cancel a job; its run goes on without it."""
    job = await own_job(request, deps, missing=404)
    body = await read(request, Cancellation, limit=MAX_BODY, optional=True)
    return _view(await deps.orders.cancel_job(job, body.reason))


@operation(OrderView, body=JobRerun, is_body_optional=True, refusals=(404, 409), before=_job)
async def rerun_job(request: Request, deps: Deps) -> Response:
    """Rerun a job, and then the phases that follow, with the config that its run has kept or the current one."""
    job = await own_job(request, deps, missing=404)
    body = await read(request, JobRerun, limit=MAX_BODY, optional=True)
    run = await deps.reads.runs.summary(course_of(request).id, job.run_id)
    if run is None:
        raise Refused(404, RUN_NOT_FOUND)
    try:
        rerun = await deps.reruns.start(run, only=[job.id], with_current=body.config == "current")
    except NothingToDoError as error:
        raise Refused(404, str(error)) from error
    return _view(rerun.ordered, rerun)


def _view(ordered: Ordered, rerun: Rerunning | None = None) -> Response:
    return answered(
        OrderView(
            run=ordered.run_id,
            state=ordered.state.slug,
            round=ordered.round,
            jobs=list(ordered.jobs),
            count=ordered.count,
            is_config_current=rerun.is_current if rerun else None,
            config=rerun.config if rerun else None,
            config_before=rerun.config_before if rerun else None,
        )
    )

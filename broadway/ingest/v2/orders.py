"""`…/cancel` and `…/rerun`: end runs and jobs that exist, or run them again."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.run import NothingToDoError
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.scope import own_job, own_run
from broadway.ingest.v2.openapi import answered, operation
from broadway.lifecycle.orders import RUN_NOT_FOUND, Ordered
from broadway.messages.resources.runs import Cancellation, JobRerun, OrderView, Rerun

MAX_BODY = 1024 * 1024  # bytes


@operation(OrderView, body=Cancellation, is_body_optional=True, refusals=(404, 409))
async def cancel_run(request: Request, deps: Deps) -> Response:
    """Cancel a run: its waiting jobs never start, and its running jobs are killed."""
    run = await own_run(request, deps, query=False, missing=404)
    body = await read(request, Cancellation, limit=MAX_BODY, optional=True)
    return _view(await deps.orders.cancel(run.id, body.reason))


@operation(OrderView, body=Rerun, is_body_optional=True, refusals=(404, 409))
async def rerun_run(request: Request, deps: Deps) -> Response:
    """Rerun jobs of a run, and then the phases that follow, with the config that the run has kept or the current one.

    Images are named by the config; a grader uses the image that it has under that name.
    """
    run = await own_run(request, deps, query=False, missing=404)
    body = await read(request, Rerun, limit=MAX_BODY, optional=True)
    only = None if isinstance(body.jobs, str) else body.jobs
    try:
        rerun = await deps.reruns.start(
            run, only=only, failed=body.jobs == "failed", with_current=body.config == "current"
        )
    except NothingToDoError as error:
        raise Refused(409 if only is None else 404, str(error)) from error
    return _view(rerun.ordered, is_config_current=rerun.is_current)


@operation(OrderView, body=Cancellation, is_body_optional=True, refusals=(404, 409))
async def cancel_job(request: Request, deps: Deps) -> Response:
    """Cancel a job; its run goes on without it."""
    job = await own_job(request, deps, query=False, missing=404)
    body = await read(request, Cancellation, limit=MAX_BODY, optional=True)
    return _view(await deps.orders.cancel_job(job, body.reason))


@operation(OrderView, body=JobRerun, is_body_optional=True, refusals=(404, 409))
async def rerun_job(request: Request, deps: Deps) -> Response:
    """Rerun a job, and then the phases that follow, with the config that its run has kept or the current one."""
    job = await own_job(request, deps, query=False, missing=404)
    body = await read(request, JobRerun, limit=MAX_BODY, optional=True)
    run = await deps.reads.runs.summary(request.path_params["course"], job.run_id)
    if run is None:
        raise Refused(404, RUN_NOT_FOUND)
    try:
        rerun = await deps.reruns.start(run, only=[job.id], with_current=body.config == "current")
    except NothingToDoError as error:
        raise Refused(404, str(error)) from error
    return _view(rerun.ordered, is_config_current=rerun.is_current)


def _view(ordered: Ordered, *, is_config_current: bool | None = None) -> Response:
    return answered(
        OrderView(
            run=ordered.run_id,
            state=ordered.state.slug,
            round=ordered.round,
            jobs=list(ordered.jobs),
            count=ordered.count,
            is_config_current=is_config_current,
        )
    )

"""`…/cancel` and `…/rerun`: end runs and jobs that exist, or run them again."""

from collections.abc import Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.run import NothingToDoError
from broadway.ingest.commands.limits import check_rerun
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.bodies import Nothing, read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.scope import own_job, own_run
from broadway.ingest.v2.openapi import answered, operation
from broadway.lifecycle.orders import Ordered
from broadway.messages.resources.runs import Cancellation, OrderView, Rerun

MAX_BODY = 1024 * 1024  # bytes


@operation(OrderView, body=Cancellation, is_body_optional=True, refusals=(404, 409))
async def cancel_run(request: Request, deps: Deps) -> Response:
    """Cancel a run: its waiting jobs never start, and its running jobs are killed."""
    run = await own_run(request, deps, query=False, missing=404)
    body = await read(request, Cancellation, limit=MAX_BODY, optional=True)
    return _view(await deps.orders.cancel(run.id, body.reason))


@operation(OrderView, body=Rerun, is_body_optional=True, refusals=(404, 409))
async def rerun_run(request: Request, deps: Deps) -> Response:
    """Rerun jobs of a run, and then the phases that follow."""
    run = await own_run(request, deps, query=False, missing=404)
    body = await read(request, Rerun, limit=MAX_BODY, optional=True)
    only = None if isinstance(body.jobs, str) else body.jobs
    return await _rerun(run.id, only, request, deps, failed=body.jobs == "failed")


@operation(OrderView, body=Cancellation, is_body_optional=True, refusals=(404, 409))
async def cancel_job(request: Request, deps: Deps) -> Response:
    """Cancel a job; its run goes on without it."""
    job = await own_job(request, deps, query=False, missing=404)
    body = await read(request, Cancellation, limit=MAX_BODY, optional=True)
    return _view(await deps.orders.cancel_job(job, body.reason))


@operation(OrderView, body=Nothing, is_body_optional=True, refusals=(404, 409))
async def rerun_job(request: Request, deps: Deps) -> Response:
    """Rerun a job, and then the phases that follow."""
    job = await own_job(request, deps, query=False, missing=404)
    await read(request, Nothing, limit=MAX_BODY, optional=True)
    return await _rerun(job.run_id, [job.id], request, deps, failed=False)


async def _rerun(run_id: str, only: Sequence[str] | None, request: Request, deps: Deps, *, failed: bool) -> Response:
    course = await deps.courses.get(request.path_params["course"])
    check = partial(check_rerun, limits=deps.limits.of_course(course) if course else deps.limits)
    try:
        return _view(await deps.orders.run_again(run_id, only=only, failed=failed, check=check))
    except NothingToDoError as error:
        raise Refused(409 if only is None else 404, str(error)) from error


def _view(ordered: Ordered) -> Response:
    view = OrderView(run=ordered.run_id, state=ordered.state.slug, round=ordered.round, jobs=list(ordered.jobs))
    return answered(view)

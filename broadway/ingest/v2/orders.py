"""`…/cancel` and `…/rerun`: ending and repeating jobs and runs that exist."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.job import Job
from broadway.domain.run import NothingToDoError, Order, OrderKind, Run, RunState, rerun_order
from broadway.ingest.commands.limits import allowed
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.bodies import Nothing, read
from broadway.ingest.v2.jobs import own_job
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.runs import announce_quietly, own_run
from broadway.ingest.v2.views import OrderView
from broadway.lifecycle.follow_ups import Fact, following
from broadway.lifecycle.phases import advance
from broadway.ports import PublishError
from broadway.runtime import fault_history
from broadway.runtime.crashpoints import Point, reach

if TYPE_CHECKING:
    from broadway.ingest.app import Deps

log = structlog.get_logger(__name__)

MAX_BODY = 1024 * 1024  # bytes
TRIES = 5  # of an order for a run that others move on at the same time
GRACE = timedelta(seconds=5)  # before the reconciler carries an order out

RUN_NOT_FOUND = "grading run with the given ID not found"
JOB_NOT_FOUND = "grading job with the given ID not found"
RUN_IS_OVER = "the run is over"
JOB_IS_OVER = "the job is over"
HAS_NO_CONFIG = "the run was made by the original, which kept no config with it: submit it again"
TRY_AGAIN = "the run moves on just now: try again"


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Cancellation(_Body):
    """What ``…/cancel`` takes."""

    reason: str = Field(default="cancelled by the course staff", min_length=1, max_length=1000)


class Rerun(_Body):
    """What ``…/rerun`` of a run takes: all its jobs, those that have not succeeded, or those that are named."""

    jobs: Literal["all", "failed"] | list[str] = "all"


@operation(OrderView, body=Cancellation, is_body_optional=True, refusals=(404, 409))
async def cancel_run(request: Request, deps: "Deps") -> Response:
    """End a run: jobs that wait never start, those that run are killed."""
    run = await own_run(request, deps, query=False, missing=404)
    wanted = await read(request, Cancellation, limit=MAX_BODY, optional=True)
    for _ in range(TRIES):
        if run.state.is_terminal:
            raise Refused(409, RUN_IS_OVER)
        open_jobs = [job for job in await deps.store.jobs.of_run(run.id) if not job.is_terminal]
        if await _order(run, Order(OrderKind.CANCEL, wanted.reason), run.state, deps):
            return await _answer(run.id, [job.id for job in open_jobs], deps)
        run = await own_run(request, deps, query=False, missing=404)
    raise Refused(409, TRY_AGAIN)


@operation(OrderView, body=Rerun, is_body_optional=True, refusals=(404, 409))
async def rerun_run(request: Request, deps: "Deps") -> Response:
    """Run jobs of a run again, and then what comes after them."""
    run = await own_run(request, deps, query=False, missing=404)
    wanted = await read(request, Rerun, limit=MAX_BODY, optional=True)
    only = None if isinstance(wanted.jobs, str) else wanted.jobs
    return await _rerun(run.id, only, deps, failed=wanted.jobs == "failed")


@operation(OrderView, body=Cancellation, is_body_optional=True, refusals=(404, 409))
async def cancel_job(request: Request, deps: "Deps") -> Response:
    """End one job; its run goes on without it."""
    job = await own_job(request, deps, query=False, otherwise=JOB_NOT_FOUND, missing=404)
    wanted = await read(request, Cancellation, limit=MAX_BODY, optional=True)
    now = datetime.now(UTC)
    moved = (await deps.store.jobs.move({job.id: lambda job: job.cancel(wanted.reason, now)}))[job.id]
    if not moved.changed:
        raise Refused(409, JOB_IS_OVER)
    await reach(Point.CANCEL_STORED)
    log.info("job cancelled", **job.context)
    deps.later(_tell(moved.after, following(moved), deps))
    return await _answer(job.run_id, [job.id], deps)


@operation(OrderView, body=Nothing, is_body_optional=True, refusals=(404, 409))
async def rerun_job(request: Request, deps: "Deps") -> Response:
    """Run one job again, and then what comes after it."""
    job = await own_job(request, deps, query=False, otherwise=JOB_NOT_FOUND, missing=404)
    await read(request, Nothing, limit=MAX_BODY, optional=True)
    return await _rerun(job.run_id, [job.id], deps, failed=False)


async def _rerun(run_id: str, only: Sequence[str] | None, deps: "Deps", *, failed: bool) -> Response:
    for _ in range(TRIES):
        run = await deps.store.runs.get(run_id)
        if run is None:
            raise Refused(404, RUN_NOT_FOUND)
        if not run.config:
            raise Refused(409, HAS_NO_CONFIG)
        allowed(run.config, deps.limits, course=run.course)
        try:
            state, order = rerun_order(await deps.store.jobs.of_run(run_id), only=only, failed=failed)
        except NothingToDoError as error:
            raise Refused(409 if only is None else 404, str(error)) from error
        if await _order(run, order, state, deps):
            return await _answer(run_id, [job_id for job_id, _ in order.jobs], deps)
    raise Refused(409, TRY_AGAIN)


async def _order(run: Run, order: Order, state: RunState, deps: "Deps") -> bool:
    """Store an order and carry it out; False when the run has changed meanwhile."""
    if run.order:  # an earlier one, whose giver has died or is about to carry it out
        await _carry_out(run.id, deps)
        return False
    if not await deps.store.runs.give_order(run, order, state, publish_at=datetime.now(UTC) + GRACE):
        return False
    await reach(Point.ORDER_STORED)
    fault_history.note("order", run=run.id, kind=order.kind.value, round=run.round + 1)
    log.info("order given", order=order.kind.value, jobs=len(order.jobs), **run.context)
    await _carry_out(run.id, deps)
    await reach(Point.ORDER_DONE)
    return True


async def _carry_out(run_id: str, deps: "Deps") -> None:
    if step := await advance(run_id, runs=deps.store.runs, jobs=deps.store.jobs):
        deps.later(announce_quietly(step, deps))


async def _tell(job: Job, facts: Sequence[Fact], deps: "Deps") -> None:
    try:
        for fact in facts:
            await deps.rabbit.publish(*fact)
    except PublishError as error:
        log.warning("cancellation not told", reason=str(error), **job.context)


async def _answer(run_id: str, job_ids: Sequence[str], deps: "Deps") -> Response:
    run = await deps.store.runs.summary(run_id)
    assert run is not None  # noqa: S101 - it was there, and nobody removes runs
    return answered(OrderView(run=run.id, state=run.state.slug, round=run.round, jobs=list(job_ids)))

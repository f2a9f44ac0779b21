"""`/graders`: graders, how they join and leave, and their operators' orders."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.grader import Grader, GraderMode
from broadway.ingest.commands.graders import NO_SUCH_GRADER, NoGraderError
from broadway.ingest.commands.limits import MAX_ID
from broadway.ingest.http.answers import CORS, Refused
from broadway.ingest.http.auth import candidate_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth
from broadway.ingest.http.scope import attached_grader
from broadway.ingest.v2.openapi import answered, operation, query_of
from broadway.ingest.v2.views.graders import grader_view
from broadway.messages.events import GraderOrder
from broadway.messages.http import IDENTITY_HEADER, PROVES_HEADER
from broadway.messages.resources.graders import (
    Because,
    GraderList,
    GraderView,
    JoinRequest,
    JoinView,
    Slots,
)

MAX_BODY = 64 * 1024  # bytes


@operation(GraderList, auth=Auth.OPERATOR)
async def list_graders(_: Request, deps: Deps) -> Response:
    """List all graders that have ever joined."""
    return answered(GraderList(graders=[grader_view(grader) for grader in await deps.reads.graders.all()]))


@operation(GraderView, auth=Auth.OPERATOR)
async def describe(request: Request, deps: Deps) -> Response:
    """Get a grader."""
    grader = await deps.reads.graders.one(request.path_params["worker_id"])
    if grader is None:
        raise NoGraderError(NO_SUCH_GRADER)
    return answered(grader_view(grader))


class JoinQuery(BaseModel):
    """The query of a join."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    broker: bool = Field(default=True, description="false for a grader that needs no login at the broker")


@operation(
    JoinView,
    body=JoinRequest,
    query=JoinQuery,
    auth=Auth.JOIN,
    headers={
        IDENTITY_HEADER: "the grader's own secret, `bwg_` and 32 to 100 random characters; it made this itself",
        PROVES_HEADER: "`1` if the grader's reports have proofs, made with the `proof_key` of the answer",
    },
    refusals=[403],
)
async def join(request: Request, deps: Deps) -> Response:
    """Join the cluster as a grader: get the heartbeat interval, the standing order and the broker's address.

    The first join gives the grader's id to the secret that it sends. Later joins need this secret, in the same header
    or as the bearer token. The address is null for graders that may not connect to the broker.
    """
    grader_id = request.path_params["worker_id"]
    if len(grader_id) > MAX_ID:
        raise Refused(400, f"grader: its id has {len(grader_id)} characters, {MAX_ID} are allowed")
    candidate = candidate_of(request)
    needs_broker = query_of(request, JoinQuery).broker
    body = await read(request, JoinRequest, limit=deps.settings.max_body_size)
    joined = await deps.joins.join(
        candidate,
        hostname=body.hostname,
        pool=body.pool,
        slots=body.slots,
        proves=PROVES_HEADER in request.headers,
        needs_broker=needs_broker,
    )
    view = JoinView(
        heartbeat_interval=deps.settings.heartbeat_interval,
        amqp_url=joined.amqp_url,
        own_user=joined.own_user,
        own_secret=joined.own_secret,
        batches=True,
        cancelled_logs=True,
        order=GraderOrder.of(grader_id, joined.order).model_dump(mode="json", exclude={"traceparent"}),
        deployment=joined.deployment,
        proof_key=joined.proof_key.hex(),
    )
    return answered(view, headers={"Cache-Control": "no-store"})


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present state of the grader, or None."""
    grader = await deps.reads.graders.one(request.path_params["worker_id"])
    return grader_view(grader).model_dump(mode="json") if grader else None


@operation(
    GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.OPERATOR, refusals=[409], before=_before
)
async def pause(request: Request, deps: Deps) -> Response:
    """Pause a grader: it takes no jobs until it is resumed, and its running jobs go on."""
    return await _set_mode(request, deps, GraderMode.PAUSED)


@operation(
    GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.OPERATOR, refusals=[409], before=_before
)
async def drain(request: Request, deps: Deps) -> Response:
    """Drain a grader: it finishes its jobs and takes no others until it is resumed, even after a restart."""
    return await _set_mode(request, deps, GraderMode.DRAINING)


@operation(
    GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.OPERATOR, refusals=[409], before=_before
)
async def resume(request: Request, deps: Deps) -> Response:
    """Resume a grader: it takes jobs again."""
    return await _set_mode(request, deps, GraderMode.ONLINE)


@operation(GraderView, status=202, body=Slots, auth=Auth.OPERATOR, refusals=[409], before=_before)
async def set_slots(request: Request, deps: Deps) -> Response:
    """Set the number of jobs that a grader runs at a time; jobs that already run go on."""
    body = await read(request, Slots, limit=MAX_BODY)
    return _accepted(await deps.grader_orders.set_slots(request.path_params["worker_id"], body.slots))


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.OPERATOR, before=_before)
async def revoke(request: Request, deps: Deps) -> Response:
    """Revoke a grader: remove its broker user and give its jobs to other graders."""
    body = await read(request, Because, limit=MAX_BODY, optional=True)
    return _accepted(await deps.grader_orders.revoke(request.path_params["worker_id"], body.reason))


@operation(GraderView, status=202, auth=Auth.OPERATOR, refusals=[409], before=_before)
async def readmit(request: Request, deps: Deps) -> Response:
    """Readmit a revoked grader: it may join again."""
    return _accepted(await deps.grader_orders.readmit(request.path_params["worker_id"]))


@operation(GraderView, status=202, auth=Auth.OPERATOR, before=_before)
async def forget_secret(request: Request, deps: Deps) -> Response:
    """Forget a grader's secret: its next join stores a new one, with a token as at its first join."""
    return _accepted(await deps.grader_orders.forget_secret(request.path_params["worker_id"]))


@operation(None, status=204, auth=Auth.OPERATOR, refusals=[409], before=_before)
async def forget(request: Request, deps: Deps) -> Response:
    """Forget a grader that is gone, with its standing order and its secret; its next join is like its first one."""
    await deps.operations.forgotten_graders.forget(request.path_params["worker_id"])
    return Response(status_code=204, headers=CORS)


@operation(None, status=204, auth=Auth.GRADER, refusals=[403], operation_id="polling_leave")
async def leave(request: Request, deps: Deps) -> Response:
    """Leave the cluster as a grader; jobs that it still holds start on other graders."""
    await deps.gateway.sessions.leave(await attached_grader(request, deps))
    return Response(status_code=204, headers=CORS)


async def _set_mode(request: Request, deps: Deps, mode: GraderMode) -> Response:
    body = await read(request, Because, limit=MAX_BODY, optional=True)
    return _accepted(await deps.grader_orders.set_mode(request.path_params["worker_id"], mode, body.reason))


def _accepted(grader: Grader) -> Response:
    return answered(grader_view(grader), 202)

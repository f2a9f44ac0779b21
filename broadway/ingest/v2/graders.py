"""`/graders`: graders, how they join and leave, and their operators' orders."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.grader import Grader, GraderMode
from broadway.ingest.commands.graders import NO_SUCH_GRADER, NoGraderError
from broadway.ingest.commands.limits import MAX_ID
from broadway.ingest.http.answers import CORS, Refused
from broadway.ingest.http.auth import authorize_cluster
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.scope import attached_grader
from broadway.ingest.v2.openapi import Auth, answered, operation
from broadway.ingest.v2.views.graders import grader_view
from broadway.messages.events import GraderOrder
from broadway.messages.resources.graders import (
    Because,
    GraderList,
    GraderView,
    JoinRequest,
    JoinView,
    Slots,
)

MAX_BODY = 64 * 1024  # bytes


@operation(GraderList, auth=Auth.CLUSTER)
async def list_graders(request: Request, deps: Deps) -> Response:
    """List all graders that have ever joined."""
    authorize_cluster(request, deps.cluster_token)
    return answered(GraderList(graders=[grader_view(grader) for grader in await deps.reads.graders.all()]))


@operation(GraderView, auth=Auth.CLUSTER)
async def describe(request: Request, deps: Deps) -> Response:
    """Get a grader."""
    authorize_cluster(request, deps.cluster_token)
    grader = await deps.reads.graders.one(request.path_params["worker_id"])
    if grader is None:
        raise NoGraderError(NO_SUCH_GRADER)
    return answered(grader_view(grader))


@operation(JoinView, body=JoinRequest, auth=Auth.CLUSTER, refusals=[403])
async def join(request: Request, deps: Deps) -> Response:
    """Join the cluster as a grader: get the heartbeat interval, the standing order and the broker's address.

    The address is null for graders that may not connect to the broker.
    """
    authorize_cluster(request, deps.cluster_token)
    body = await read(request, JoinRequest, limit=deps.settings.max_body_size)
    grader_id = request.path_params["worker_id"]
    if len(grader_id) > MAX_ID:
        raise Refused(400, f"grader: its id has {len(grader_id)} characters, {MAX_ID} are allowed")
    joined = await deps.joins.join(grader_id, hostname=body.hostname, pool=body.pool, slots=body.slots)
    view = JoinView(
        heartbeat_interval=deps.settings.heartbeat_interval,
        amqp_url=joined.amqp_url,
        own_user=joined.own_user,
        order=GraderOrder.of(grader_id, joined.order).model_dump(mode="json", exclude={"traceparent"}),
    )
    return answered(view, headers={"Cache-Control": "no-store"})


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER, refusals=[409])
async def pause(request: Request, deps: Deps) -> Response:
    """Pause a grader: it takes no jobs until it is resumed, and its running jobs go on."""
    return await _set_mode(request, deps, GraderMode.PAUSED)


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER, refusals=[409])
async def drain(request: Request, deps: Deps) -> Response:
    """Drain a grader: it finishes its jobs and takes no others until it is resumed, even after a restart."""
    return await _set_mode(request, deps, GraderMode.DRAINING)


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER, refusals=[409])
async def resume(request: Request, deps: Deps) -> Response:
    """Resume a grader: it takes jobs again."""
    return await _set_mode(request, deps, GraderMode.ONLINE)


@operation(GraderView, status=202, body=Slots, auth=Auth.CLUSTER, refusals=[409])
async def set_slots(request: Request, deps: Deps) -> Response:
    """Set the number of jobs that a grader runs at a time; jobs that already run go on."""
    authorize_cluster(request, deps.cluster_token)
    body = await read(request, Slots, limit=MAX_BODY)
    return _accepted(await deps.grader_orders.set_slots(request.path_params["worker_id"], body.slots))


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER)
async def revoke(request: Request, deps: Deps) -> Response:
    """Revoke a grader: remove its broker user and give its jobs to other graders."""
    authorize_cluster(request, deps.cluster_token)
    body = await read(request, Because, limit=MAX_BODY, optional=True)
    return _accepted(await deps.grader_orders.revoke(request.path_params["worker_id"], body.reason))


@operation(GraderView, status=202, auth=Auth.CLUSTER, refusals=[409])
async def readmit(request: Request, deps: Deps) -> Response:
    """Readmit a revoked grader: it may join again."""
    authorize_cluster(request, deps.cluster_token)
    return _accepted(await deps.grader_orders.readmit(request.path_params["worker_id"]))


@operation(None, status=204, auth=Auth.CLUSTER, refusals=[403], operation_id="polling_leave")
async def leave(request: Request, deps: Deps) -> Response:
    """Leave the cluster as a grader; jobs that it still holds start on other graders."""
    await deps.gateway.sessions.leave(await attached_grader(request, deps))
    return Response(status_code=204, headers=CORS)


async def _set_mode(request: Request, deps: Deps, mode: GraderMode) -> Response:
    authorize_cluster(request, deps.cluster_token)
    body = await read(request, Because, limit=MAX_BODY, optional=True)
    return _accepted(await deps.grader_orders.set_mode(request.path_params["worker_id"], mode, body.reason))


def _accepted(grader: Grader) -> Response:
    return answered(grader_view(grader), 202)

"""`/graders`: graders, their joining, and their operators' orders."""

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.grader import Grader, GraderMode
from broadway.ingest.commands.graders import NO_SUCH_GRADER, NoGraderError
from broadway.ingest.http.answers import CORS
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
    """Every grader that ever joined, for operators."""
    authorize_cluster(request, deps.cluster_token)
    return answered(GraderList(graders=[grader_view(grader) for grader in await deps.reads.graders.all()]))


@operation(GraderView, auth=Auth.CLUSTER)
async def describe(request: Request, deps: Deps) -> Response:
    """One grader."""
    authorize_cluster(request, deps.cluster_token)
    grader = await deps.reads.graders.one(request.path_params["worker_id"])
    if grader is None:
        raise NoGraderError(NO_SUCH_GRADER)
    return answered(grader_view(grader))


@operation(JoinView, body=JoinRequest, auth=Auth.CLUSTER, refusals=[403])
async def join(request: Request, deps: Deps) -> Response:
    """Tell a grader how often to say that it lives, what is wanted of it, and where the broker is, if it may know."""
    authorize_cluster(request, deps.cluster_token)
    wanted = await read(request, JoinRequest, limit=deps.settings.max_body_size)
    grader_id = request.path_params["worker_id"]
    joined = await deps.joins.join(grader_id, hostname=wanted.hostname, pool=wanted.pool, slots=wanted.slots)
    view = JoinView(
        heartbeat_interval=deps.settings.heartbeat_interval,
        amqp_url=joined.amqp_url,
        own_user=joined.own_user,
        order=GraderOrder.of(grader_id, joined.order).model_dump(mode="json", exclude={"traceparent"}),
    )
    return answered(view, headers={"Cache-Control": "no-store"})


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER, refusals=[409])
async def pause(request: Request, deps: Deps) -> Response:
    """A grader is to take no jobs until it is resumed; what runs goes on."""
    return await _set_mode(request, deps, GraderMode.PAUSED)


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER, refusals=[409])
async def drain(request: Request, deps: Deps) -> Response:
    """A grader is to finish what it runs, and then do nothing until it is resumed, in another life too."""
    return await _set_mode(request, deps, GraderMode.DRAINING)


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER, refusals=[409])
async def resume(request: Request, deps: Deps) -> Response:
    """A grader is to take jobs again."""
    return await _set_mode(request, deps, GraderMode.ONLINE)


@operation(GraderView, status=202, body=Slots, auth=Auth.CLUSTER, refusals=[409])
async def set_slots(request: Request, deps: Deps) -> Response:
    """A grader is to run so many jobs at a time; those that run already go on."""
    authorize_cluster(request, deps.cluster_token)
    wanted = await read(request, Slots, limit=MAX_BODY)
    return _accepted(await deps.grader_orders.set_slots(request.path_params["worker_id"], wanted.slots))


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER)
async def revoke(request: Request, deps: Deps) -> Response:
    """A grader is to do nothing here any more: its user at the broker is removed, and others get what it runs."""
    authorize_cluster(request, deps.cluster_token)
    because = await read(request, Because, limit=MAX_BODY, optional=True)
    return _accepted(await deps.grader_orders.revoke(request.path_params["worker_id"], because.reason))


@operation(GraderView, status=202, auth=Auth.CLUSTER, refusals=[409])
async def readmit(request: Request, deps: Deps) -> Response:
    """A grader that was revoked may join again."""
    authorize_cluster(request, deps.cluster_token)
    return _accepted(await deps.grader_orders.readmit(request.path_params["worker_id"]))


@operation(None, status=204, auth=Auth.CLUSTER, refusals=[403], operation_id="polling_leave")
async def leave(request: Request, deps: Deps) -> Response:
    """Let a grader go; jobs that it still holds start elsewhere."""
    await deps.gateway.sessions.leave(await attached_grader(request, deps))
    return Response(status_code=204, headers=CORS)


async def _set_mode(request: Request, deps: Deps, mode: GraderMode) -> Response:
    authorize_cluster(request, deps.cluster_token)
    because = await read(request, Because, limit=MAX_BODY, optional=True)
    return _accepted(await deps.grader_orders.set_mode(request.path_params["worker_id"], mode, because.reason))


def _accepted(grader: Grader) -> Response:
    return answered(grader_view(grader), 202)

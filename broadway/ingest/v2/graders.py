"""`/graders`: graders, their joining, and their operators' orders."""

from datetime import UTC, datetime
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.gateway.broker_accounts import BrokerAccounts
from broadway.ingest.http.answers import CORS, Refused
from broadway.ingest.http.auth import authorize_cluster
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.scope import attached_grader
from broadway.ingest.v2.openapi import Auth, answered, operation
from broadway.lifecycle.follow_ups import ordered
from broadway.management import ManagementError
from broadway.messages.events import GraderMode
from broadway.messages.resources.graders import (
    MAX_SLOTS,
    Because,
    GraderList,
    GraderView,
    JoinRequest,
    JoinView,
    Slots,
    Wanted,
)
from broadway.messages.topology import ready_queue
from broadway.mongo.workers import order_of
from broadway.ports import PublishError

log = structlog.get_logger(__name__)

MAX_BODY = 64 * 1024  # bytes
NO_SUCH_GRADER = "no grader of that id has ever joined"


@operation(GraderList, auth=Auth.CLUSTER)
async def list_graders(request: Request, deps: Deps) -> Response:
    """Every grader that ever joined, for operators."""
    authorize_cluster(request, deps.cluster_token)
    return answered(GraderList(graders=[_described(document) for document in await deps.store.workers.all()]))


@operation(GraderView, auth=Auth.CLUSTER)
async def describe(request: Request, deps: Deps) -> Response:
    """One grader."""
    authorize_cluster(request, deps.cluster_token)
    document = await deps.store.workers.get(request.path_params["worker_id"])
    if document is None:
        raise Refused(404, NO_SUCH_GRADER)
    return answered(_described(document))


@operation(JoinView, body=JoinRequest, auth=Auth.CLUSTER, refusals=[403])
async def join(request: Request, deps: Deps) -> Response:
    """Tell a grader how often to say that it lives, what is wanted of it, and where the broker is, if it may know."""
    authorize_cluster(request, deps.cluster_token)
    wanted = await read(request, JoinRequest, limit=deps.settings.max_body_size)
    grader_id = request.path_params["worker_id"]
    order = await deps.store.workers.join(
        grader_id, hostname=wanted.hostname, pool=wanted.pool, slots=wanted.slots, now=datetime.now(UTC)
    )
    if order.mode is GraderMode.REVOKED:
        raise Refused(403, _revoked(grader_id))
    address = await _address(deps, grader_id, pool=wanted.pool, slots=order.slots or wanted.slots)
    await _refuse_revoked(deps, grader_id)
    view = JoinView(
        heartbeat_interval=deps.settings.heartbeat_interval,
        amqp_url=address,
        own_user=deps.accounts is not None,
        order=order.model_dump(mode="json", exclude={"traceparent"}),
    )
    return answered(view, headers={"Cache-Control": "no-store"})


def _revoked(grader_id: str) -> str:
    return f"grader {grader_id} has been revoked; `broadway grader readmit {grader_id}` lets it in"


async def _refuse_revoked(deps: Deps, grader_id: str) -> None:
    """Take back the login of a grader that was revoked while it was made: who revoked it may have looked before."""
    document = await deps.store.workers.get(grader_id)
    if document is None or order_of(document).mode is not GraderMode.REVOKED:
        return
    if deps.accounts:
        try:
            await deps.accounts.close(grader_id)
        except ManagementError as error:
            log.warning("broker user not removed yet", grader=grader_id, reason=str(error))
    raise Refused(403, _revoked(grader_id))


async def _address(deps: Deps, grader_id: str, *, pool: str, slots: int) -> str | None:
    """The broker, as this grader is to reach it: with a login of its own if there can be one."""
    if not deps.settings.offer_amqp:
        return None
    if deps.accounts is None:
        return (deps.settings.grader_amqp_url or deps.settings.amqp_url).get_secret_value()
    try:
        await deps.rabbit.declare(ready_queue(pool))  # the grader may not
        return await deps.accounts.open(grader_id, pool=pool, slots=slots)
    except (ManagementError, PublishError) as error:
        log.warning("grader cannot join now", grader=grader_id, reason=str(error))
        raise Refused(503, "the broker or its management API is away") from error


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER, refusals=[409])
async def pause(request: Request, deps: Deps) -> Response:
    """A grader is to take no jobs until it is resumed; what runs goes on."""
    return await _order(request, deps, GraderMode.PAUSED)


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER, refusals=[409])
async def drain(request: Request, deps: Deps) -> Response:
    """A grader is to finish what it runs, and then do nothing until it is resumed, in another life too."""
    return await _order(request, deps, GraderMode.DRAINING)


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER, refusals=[409])
async def resume(request: Request, deps: Deps) -> Response:
    """A grader is to take jobs again."""
    return await _order(request, deps, GraderMode.ONLINE)


@operation(GraderView, status=202, body=Slots, auth=Auth.CLUSTER, refusals=[409])
async def set_slots(request: Request, deps: Deps) -> Response:
    """A grader is to run so many jobs at a time; those that run already go on."""
    authorize_cluster(request, deps.cluster_token)
    wanted = await read(request, Slots, limit=MAX_BODY)
    document = await _store_order(request, deps, {"slots": wanted.slots})
    if deps.accounts and document.get("broker_user"):
        await _let(deps.accounts, document["_id"], wanted.slots or document.get("own_slots") or MAX_SLOTS)
    return await _tell(deps, document)


async def _let(accounts: BrokerAccounts, grader_id: str, slots: int) -> None:
    try:
        await accounts.limit(grader_id, slots)
    except ManagementError as error:
        raise Refused(503, f"the broker's management API is away: try again ({error})") from error


@operation(GraderView, status=202, body=Because, is_body_optional=True, auth=Auth.CLUSTER)
async def revoke(request: Request, deps: Deps) -> Response:
    """A grader is to do nothing here any more: its user at the broker is removed, and others get what it runs."""
    authorize_cluster(request, deps.cluster_token)
    because = await read(request, Because, limit=MAX_BODY, optional=True)
    grader_id = request.path_params["worker_id"]
    workers = deps.store.workers
    wanted = {"mode": GraderMode.REVOKED.value, "reason": because.reason}
    document = await workers.order(grader_id, wanted, anyone=True)
    assert document is not None  # noqa: S101 - it has been made if there was none
    log.warning("grader revoked", grader=grader_id, reason=because.reason)
    answer = await _tell(deps, document)
    if deps.accounts:
        try:
            await deps.accounts.close(grader_id)
        except ManagementError as error:
            log.warning("broker user not removed yet", grader=grader_id, reason=str(error))
            raise Refused(503, "revoked, but its user at the broker could not be removed yet: try again") from error
    await deps.gateway.revoke(grader_id)
    return answer


@operation(GraderView, status=202, auth=Auth.CLUSTER, refusals=[409])
async def readmit(request: Request, deps: Deps) -> Response:
    """A grader that was revoked may join again."""
    authorize_cluster(request, deps.cluster_token)
    wanted = {"mode": GraderMode.ONLINE.value, "reason": ""}
    return await _tell(deps, await _store_order(request, deps, wanted, is_revoked=True))


@operation(None, status=204, auth=Auth.CLUSTER, refusals=[403], operation_id="polling_leave")
async def leave(request: Request, deps: Deps) -> Response:
    """Let a grader go; jobs that it still holds start elsewhere."""
    worker = await attached_grader(request, deps)
    await deps.gateway.leave(worker)
    return Response(status_code=204, headers=CORS)


async def _order(request: Request, deps: Deps, mode: GraderMode) -> Response:
    authorize_cluster(request, deps.cluster_token)
    because = await read(request, Because, limit=MAX_BODY, optional=True)
    return await _tell(deps, await _store_order(request, deps, {"mode": mode.value, "reason": because.reason}))


async def _store_order(
    request: Request, deps: Deps, wanted: dict[str, Any], *, is_revoked: bool = False
) -> dict[str, Any]:
    """Change what is wanted of the grader in the path.

    Raises:
        Refused: 404 or 409.
    """
    grader_id, workers = request.path_params["worker_id"], deps.store.workers
    known = await workers.get(grader_id)
    if known is None:
        raise Refused(404, NO_SUCH_GRADER)
    if (order_of(known).mode is GraderMode.REVOKED) is not is_revoked:
        readmit_first = f"the grader has been revoked; `broadway grader readmit {grader_id}` lets it in again"
        raise Refused(409, "the grader is not revoked" if is_revoked else readmit_first)
    document = await workers.order(grader_id, wanted)
    if document is None:
        raise Refused(404, NO_SUCH_GRADER)
    return document


async def _tell(deps: Deps, document: dict[str, Any]) -> Response:
    """Tell a grader what is wanted of it; if it does not hear this, its next heartbeat is answered with it."""
    deps.announcements.facts([ordered(order_of(document))])
    return answered(_described(document), 202)


def _running(document: dict[str, Any]) -> list[str]:
    if not document.get("alive"):
        return []
    running = document.get("running_job_ids") or [document.get("running_job_id")]
    return [str(job) for job in running if job]


def _state(document: dict[str, Any]) -> str:
    """Where a grader is, by what it says of itself; what is wanted of it may be more."""
    if order_of(document).mode is GraderMode.REVOKED:
        return "revoked"
    if not document.get("alive"):
        return "gone"
    is_gateways = bool(document.get("gateway"))
    mode = order_of(document).mode if is_gateways else GraderMode.ONLINE
    if document.get("draining") or mode is GraderMode.DRAINING:
        return "draining" if _running(document) else "drained"
    return "paused" if document.get("paused") or mode is GraderMode.PAUSED else "online"


def _described(document: dict[str, Any]) -> GraderView:
    order = order_of(document)
    seen = document.get("last_seen")
    return GraderView(
        id=document["_id"],
        hostname=document.get("worker_hostname", ""),
        pool=document.get("pool") or "default",
        state=_state(document),
        slots=order.slots or document.get("own_slots") or document.get("slots") or 1,
        reason=order.reason or document.get("paused") or "",
        wanted=Wanted(mode=order.mode.value, slots=order.slots),
        running=_running(document),
        jobs_processed=document.get("jobs_processed", 0),
        last_seen=seen if seen and seen.year > 1970 else None,  # noqa: PLR2004 - it has never been
        way=_way(document),
        runtime=document.get("runtime") or "",
    )


def _way(document: dict[str, Any]) -> str:
    if not document.get("gateway"):
        return "broker"
    return "websocket" if document.get("use_ws") else "polling"

"""`/pools`: pools of graders, their loads and their switches, for operators and programs that scale."""

import re
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind
from broadway.domain.pool_load import TARGET
from broadway.ingest.commands.pools import PoolState
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import principal_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.representations import CONDITION, unchanged
from broadway.ingest.http.rights import Auth
from broadway.ingest.v2.openapi import answered, operation, query_of
from broadway.ingest.v2.views.access import pool_view
from broadway.messages.resources.access import PoolList, PoolRequest, PoolView

WATCHERS = (Auth.OPERATOR, Auth.METRICS)
MAX_BODY = 64 * 1024  # bytes
NO_SUCH_POOL = "there is no such pool: no course, grader or setting names it"


class PoolQuery(BaseModel):
    """The query of a read of pools."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Annotated[
        float,
        Field(ge=1, le=86_400, description="seconds within which waiting jobs should start, for `suggested_slots`"),
    ] = TARGET


@operation(PoolList, also={304: None}, query=PoolQuery, headers=CONDITION, auth=WATCHERS)
async def list_pools(request: Request, deps: Deps) -> Response:
    """List the pools of courses, of graders, and of settings, with their loads.

    All readers share a read of the loads, which is 2 to 60 seconds old at most: 20 times as long as it took.
    """
    target = query_of(request, PoolQuery).target
    return unchanged(request, answered(PoolList(pools=await _views(request, deps, target))))


@operation(PoolView, also={304: None}, query=PoolQuery, headers=CONDITION, auth=WATCHERS)
async def describe(request: Request, deps: Deps) -> Response:
    """Get a pool with its load, as in the list."""
    views, name = await _views(request, deps, query_of(request, PoolQuery).target), request.path_params["pool"]
    found = next((view for view in views if view.id == name), None)
    if found is None:
        raise Refused(404, NO_SUCH_POOL)
    return unchanged(request, answered(found))


async def _before(request: Request, deps: Deps) -> Any:
    """Return the pool as it is, or None."""
    name = request.path_params["pool"]
    return next((asdict(state.pool) for state in await deps.operations.pools.all() if state.pool.id == name), None)


@operation(PoolView, body=PoolRequest, auth=Auth.OPERATOR, before=_before)
async def put(request: Request, deps: Deps) -> Response:
    """Change a pool: whether it admits graders without a secret, such as the original's, with the cluster token."""
    name = request.path_params["pool"]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
        raise Refused(400, "pool: letters, digits, dashes and underscores, 100 at most")
    body = await read(request, PoolRequest, limit=MAX_BODY)
    await deps.operations.pools.set(name, original_graders=body.original_graders)
    return answered(next(view for view in await _views(request, deps, TARGET) if view.id == name))


async def _views(request: Request, deps: Deps, target: float) -> list[PoolView]:
    states: list[PoolState] = await deps.operations.pools.all()
    loads = await deps.reads.pools.of([state.pool.id for state in states])
    is_operator = principal_of(request).kind is Kind.OPERATOR
    return [pool_view(each, loads[each.pool.id], target=target, is_operator=is_operator) for each in states]

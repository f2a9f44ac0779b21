"""`/pools`: pools of graders and their switches, for operators."""

import re
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.answers import Refused
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views.access import pool_view
from broadway.messages.resources.access import PoolList, PoolRequest, PoolView

MAX_BODY = 64 * 1024  # bytes


@operation(PoolList, auth=Auth.OPERATOR)
async def list_pools(_: Request, deps: Deps) -> Response:
    """List the pools of courses, of graders, and of settings."""
    return answered(PoolList(pools=[pool_view(state) for state in await deps.pools.all()]))


async def _before(request: Request, deps: Deps) -> Any:
    """Return the pool as it is, or None."""
    name = request.path_params["pool"]
    return next((asdict(state.pool) for state in await deps.pools.all() if state.pool.id == name), None)


@operation(PoolView, body=PoolRequest, auth=Auth.OPERATOR, before=_before)
async def put(request: Request, deps: Deps) -> Response:
    """Change a pool: whether it admits graders without a secret, such as the original's, with the cluster token."""
    name = request.path_params["pool"]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
        raise Refused(400, "pool: letters, digits, dashes and underscores, 100 at most")
    body = await read(request, PoolRequest, limit=MAX_BODY)
    return answered(pool_view(await deps.pools.set(name, original_graders=body.original_graders)))

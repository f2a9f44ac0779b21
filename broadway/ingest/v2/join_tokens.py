"""`/join-tokens`: tokens with which new graders join, for operators."""

from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.answers import CORS
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, nothing
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views.access import join_token_view, new_join_token_view
from broadway.messages.resources.access import JoinTokenList, JoinTokenRequest, JoinTokenView, NewJoinTokenView

MAX_BODY = 64 * 1024  # bytes


@operation(
    NewJoinTokenView, status=201, body=JoinTokenRequest, is_body_optional=True, auth=Auth.OPERATOR, before=nothing
)
async def create(request: Request, deps: Deps) -> Response:
    """Make a join token. Its secret is in this answer only."""
    body = await read(request, JoinTokenRequest, limit=MAX_BODY, optional=True)
    valid_for = None if body.valid_for is None else timedelta(seconds=body.valid_for)
    token, secret = await deps.operations.join_tokens.create(
        name=body.name, pools=body.pools, uses=body.uses, valid_for=valid_for
    )
    headers = {"Location": f"/api/v2/join-tokens/{token.id}", "Cache-Control": "no-store"}
    return answered(new_join_token_view(token, secret), 201, headers)


@operation(JoinTokenList, auth=Auth.OPERATOR)
async def list_tokens(_: Request, deps: Deps) -> Response:
    """List the join tokens, revoked ones too, latest first."""
    return answered(JoinTokenList(tokens=[join_token_view(token) for token in await deps.operations.join_tokens.all()]))


@operation(JoinTokenView, auth=Auth.OPERATOR)
async def show(request: Request, deps: Deps) -> Response:
    """Get a join token, without its secret."""
    return answered(join_token_view(await deps.operations.join_tokens.one(request.path_params["token"])))


async def _before(request: Request, deps: Deps) -> Any:
    """Return the token as it is, without its secret."""
    return join_token_view(await deps.operations.join_tokens.one(request.path_params["token"])).model_dump(mode="json")


@operation(None, status=204, auth=Auth.OPERATOR, before=_before)
async def revoke(request: Request, deps: Deps) -> Response:
    """Revoke a join token: no further grader joins with it; those that have joined keep their secrets."""
    await deps.operations.join_tokens.revoke(request.path_params["token"])
    return Response(status_code=204, headers=CORS)

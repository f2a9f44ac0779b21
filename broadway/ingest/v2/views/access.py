"""Join tokens and pools as resources."""

from broadway.domain.access import AccessToken
from broadway.ingest.commands.pools import PoolState
from broadway.messages.resources.access import JoinTokenView, NewJoinTokenView, PoolView


def join_token_view(token: AccessToken) -> JoinTokenView:
    return JoinTokenView(
        id=token.id,
        name=token.name,
        pools=None if token.pools is None else list(token.pools),
        uses_left=token.uses_left,
        graders=list(token.users),
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
    )


def new_join_token_view(token: AccessToken, secret: str) -> NewJoinTokenView:
    return NewJoinTokenView(**join_token_view(token).model_dump(), token=secret)


def pool_view(state: PoolState) -> PoolView:
    return PoolView(
        id=state.pool.id,
        original_graders=state.pool.original_graders,
        reason=state.pool.reason,
        changed_at=state.pool.changed_at,
        courses=state.courses,
        graders=state.graders,
        without_secret=state.without_secret,
    )

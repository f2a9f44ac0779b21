"""Join tokens and pools as resources."""

from dataclasses import asdict

from broadway.domain.access import AccessToken
from broadway.domain.pool_load import TARGET, PoolLoad
from broadway.ingest.commands.pools import PoolState
from broadway.messages.resources.access import JoinTokenView, NewJoinTokenView, PoolJobsView, PoolSlotsView, PoolView


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


def pool_view(state: PoolState, load: PoolLoad, *, target: float = TARGET, is_operator: bool = True) -> PoolView:
    """Return a pool; only operators see which of its graders have no secret."""
    return PoolView(
        id=state.pool.id,
        original_graders=state.pool.original_graders,
        reason=state.pool.reason if is_operator else "",
        changed_at=state.pool.changed_at,
        courses=state.courses,
        graders=state.graders,
        without_secret=state.without_secret if is_operator else [],
        live_graders=load.graders,
        slots=PoolSlotsView(**asdict(load.slots)),
        jobs=PoolJobsView(
            waiting=load.stored.waiting,
            ready=load.ready,
            running=load.stored.running,
            oldest_wait=_rounded(load.stored.oldest_wait, 1),
            rate=_rounded(load.rate, 3),
            mean_duration=_rounded(load.mean_duration, 3),
        ),
        suggested_slots=load.suggested_slots(target),
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)

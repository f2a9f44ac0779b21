"""Retention as a resource."""

from dataclasses import asdict

from broadway.domain.retention import CourseRules, Pass, Policy, State
from broadway.messages.resources.retention import PassView, RetentionView

_OF_DEPLOYMENT = ("tokens", "dead_letters", "graders")


def retention_view(state: State, policy: Policy) -> RetentionView:
    names = CourseRules.model_fields if state.course else _OF_DEPLOYMENT
    own = state.rules.model_dump() if state.course else {}
    return RetentionView(
        own=own,
        days={name: days for name, days in asdict(policy).items() if name in names},
        ordered=pass_view(state.ordered) if state.ordered else None,
        last=pass_view(state.last) if state.last else None,
        last_dry_run=pass_view(state.last_dry) if state.last_dry else None,
    )


def pass_view(made: Pass) -> PassView:
    return PassView(
        id=made.id,
        dry_run=made.is_dry,
        ordered_at=made.ordered_at,
        by=made.by,
        ended_at=made.ended_at,
        counts=dict(made.counts),
        kept=dict(made.kept),
    )

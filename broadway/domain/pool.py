"""Pools of graders: their switch for graders without secrets. Pure."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Pool:
    """The settings of a pool, which an operator may change.

    Args:
        id: Its name.
        original_graders: True if it admits graders that have no secret of their own and know only the cluster token,
            as those of the original do.
        reason: The reason for the present setting.
        changed_at: The time of the last change; None for a pool whose settings have never been changed.
    """

    id: str
    original_graders: bool = False
    reason: str = ""
    changed_at: datetime | None = None

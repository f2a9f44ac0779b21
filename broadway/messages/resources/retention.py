"""Retention: rules, and their passes."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from broadway.domain.retention import Rule
from broadway.messages.resources.base import Body, View

_OWN = "days, from 1 to 36500; `keep`; or null for the deployment's rule: "


class RetentionRequest(Body):
    """A course's own rules; they replace the earlier ones."""

    works: Rule = Field(default=None, description=f"{_OWN}submissions and runs that no grade needs")
    logs: Rule = Field(default=None, description=f"{_OWN}logs of jobs to which no grade refers")
    regrades: Rule = Field(default=None, description=f"{_OWN}runs of discarded regrades")
    deliveries: Rule = Field(default=None, description=f"{_OWN}decided deliveries of webhooks without a run")
    tokens: Rule = Field(default=None, description=f"{_OWN}expired and revoked tokens")


class PassRequest(Body):
    """A pass that applies the rules now; a dry one only counts."""

    dry_run: bool = Field(default=False, description="remove nothing")


class PassView(View):
    """A pass: the numbers of removed things by kind, and by assignment the reason why old works stay."""

    id: str
    dry_run: bool
    ordered_at: datetime
    by: str
    ended_at: datetime | None
    counts: dict[str, int]
    kept: dict[str, str]


class RetentionView(View):
    """The retention of a course: its own rules, the rules in force (null: keep), and its passes."""

    own: dict[str, int | Literal["keep"] | None]
    days: dict[str, int | None]
    ordered: PassView | None
    last: PassView | None
    last_dry_run: PassView | None

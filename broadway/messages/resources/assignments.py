"""Assignments' settings."""

from datetime import datetime

from pydantic import Field

from broadway.domain.assignment_settings import AssignmentSettings
from broadway.messages.resources.base import View


class SettingsView(View):
    """A version of an assignment's settings."""

    version: int = Field(description="0 while the defaults are unchanged")
    at: datetime | None = Field(description="time of the change; null for version 0")
    by: str = Field(description="name of the token that made the change")
    settings: AssignmentSettings

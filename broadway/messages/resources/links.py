"""Personal links to the pages."""

from datetime import datetime

from pydantic import Field

from broadway.messages.resources.base import Body, View


class LinksRequest(Body):
    """New personal links for all students of a roster."""

    expires_in_days: int = Field(default=200, ge=1, le=3650, description="days until the links expire")
    replace: bool = Field(default=False, description="end the students' earlier links")


class LinkView(View):
    """A link: the address of this server, ``/s/`` and the token, which no later answer contains."""

    id: str
    student: str | None
    token: str
    expires_at: datetime


class LinksView(View):
    """New links, in the order of the roster."""

    items: list[LinkView]

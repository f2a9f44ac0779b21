"""Principals, tokens that the API hands out, and the audit log."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from broadway.domain.course import TokenName
from broadway.domain.roster import Student
from broadway.messages.resources.base import Body, View

DAYS = Field(default=None, ge=1, le=3650, description="days until the token expires; null for never")


class WhoAmI(View):
    """The principal of a token. ``course`` is null unless the token belongs to exactly one course."""

    kind: str = Field(description="staff, query, student, operator, join, grader or metrics")
    name: str
    course: str | None
    courses: list[str]
    student: str | None
    grader: str | None
    expires_at: datetime | None


class TokenRequest(Body):
    """A new token of a course: ``staff`` may do everything for the course, ``query`` may read states."""

    name: TokenName
    kind: Literal["staff", "query"] = "staff"
    expires_in_days: int | None = DAYS


class StudentTokenRequest(Body):
    """A new token of a student, who must be in a roster of the course."""

    student: Student
    name: TokenName | None = None
    expires_in_days: int | None = DAYS


class TokenView(View):
    """A token, without its secret."""

    id: str
    kind: str
    name: str
    student: str | None
    state: str = Field(description="valid, expired or revoked")
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None


class NewTokenView(TokenView):
    """A new token with its secret, which no later answer contains."""

    token: str


class AuditView(View):
    """A record of the audit log. The states are JSON texts, with secrets masked and long texts cut."""

    id: str
    at: datetime
    kind: str = Field(description="staff, query, student, operator or service")
    name: str
    address: str
    operation: str
    object: str = Field(description="path of the object")
    course: str | None
    status: int = Field(description="status of the answer")
    given: str | None = Field(description="body of the request")
    before: str | None = Field(description="the object's state before the action")
    after: str | None = Field(description="body of the answer")
    request: str = Field(description="the request's id in log lines")

"""Courses and their assignments."""

from typing import Any

from pydantic import Field

from broadway.domain.course import MAX_CONCURRENCY, Name
from broadway.messages.resources.base import Body, View


class CourseView(View):
    """A course, without its tokens."""

    id: str
    weight: float
    concurrency: int | None
    pool: str


class CourseRequest(Body):
    """A new course. Its tokens are made after it, below `/courses/{course}/tokens`."""

    id: Name = Field(description="letters, digits, dashes and underscores")
    weight: float = Field(default=1.0, ge=0.01, le=100, description="share while several courses wait")
    concurrency: int | None = Field(default=None, ge=1, le=MAX_CONCURRENCY, description="limit on its jobs in flight")
    pool: Name = Field(default="default", description="the graders that run its jobs")


class AssignmentView(View):
    """An assignment: its config as posted, the size of its roster, and the names of its hooks."""

    id: str
    config: dict[str, Any]
    students: int | None = Field(description="number of students in the roster; null without a roster")
    hooks: list[str]


class AssignmentName(View):
    """An assignment in a list."""

    id: str

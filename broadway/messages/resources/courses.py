"""Courses and their assignments."""

from typing import Any

from pydantic import Field

from broadway.messages.resources.base import View


class CourseView(View):
    """A course, without its tokens."""

    id: str
    weight: float
    concurrency: int | None
    pool: str


class AssignmentView(View):
    """An assignment: its config as it was posted, how many students its roster has, and its hooks."""

    id: str
    config: dict[str, Any]
    students: int | None = Field(description="students of the roster; null without one")
    hooks: list[str]


class AssignmentName(View):
    """An assignment in a list."""

    id: str

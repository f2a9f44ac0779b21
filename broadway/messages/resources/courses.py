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
    """An assignment: its config as posted, the size of its roster, and the names of its hooks."""

    id: str
    config: dict[str, Any]
    students: int | None = Field(description="number of students in the roster; null without a roster")
    hooks: list[str]


class AssignmentName(View):
    """An assignment in a list."""

    id: str

"""Courses: who may do what, and how much of the cluster a course gets."""

import hmac
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

COURSE_ID = r"^[A-Za-z0-9_-]+$"

Name = Annotated[str, Field(pattern=COURSE_ID, max_length=100)]


class Course(BaseModel):
    """One course, as the file named by ``--course-config`` and the collection ``course`` hold it.

    ``tokens`` may do everything, ``query_tokens`` may read states and positions. ``weight`` is the course's
    share when several courses wait, ``concurrency`` caps its jobs in flight (none: bounded by the cluster),
    ``pool`` names the graders that run its jobs. Keys of other programs are ignored, as the original does.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Name
    tokens: tuple[str, ...]
    query_tokens: tuple[str, ...] = ()
    weight: float = Field(default=1.0, ge=0.01, le=100)
    concurrency: int | None = Field(default=None, ge=1)
    pool: Name = "default"

    def admits(self, token: str, *, query: bool = False) -> bool:
        """Tell whether a token is one of the course's (of its query tokens too, if ``query``)."""
        allowed = self.tokens + self.query_tokens if query else self.tokens
        return any([same_secret(token, candidate) for candidate in allowed])  # noqa: C419 - every one, always


class CourseConfigError(ValueError):
    """The course config file cannot be used; the text says where and why."""


def read_courses(path: Path) -> list[Course]:
    """Read a course config file: ``{"<course>": {"tokens": [...], "query_tokens": [...]}}``.

    Raises:
        CourseConfigError: The file cannot be read, or a course in it is wrong (named, with the key).
    """
    try:
        courses = TypeAdapter(dict[str, dict[str, object]]).validate_json(path.read_bytes())
        return [_course(name, fields) for name, fields in courses.items()]
    except OSError as error:
        raise CourseConfigError(f"course config {path}: {error.strerror}") from error
    except ValidationError as error:
        raise CourseConfigError(f"course config {path}: {_first_problem(error)}") from error
    except ValueError as error:
        raise CourseConfigError(f"course config {path}: {error}") from error


def _course(name: str, fields: dict[str, object]) -> Course:
    try:
        return Course.model_validate({**fields, "id": name})
    except ValidationError as error:
        raise CourseConfigError(f"course {name!r}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def same_secret(given: str, expected: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode("utf-8", "surrogateescape"))

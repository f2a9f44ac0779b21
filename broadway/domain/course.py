"""Courses: their tokens, and their shares of the cluster."""

import hashlib
import hmac
import re
from pathlib import Path
from secrets import token_hex
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from broadway.domain.bounds import MAX_STAGES

COURSE_ID = r"^[A-Za-z0-9_-]+$"

_HASHED = re.compile(r"sha256\$(?P<salt>[0-9a-f]{32})\$(?P<digest>[0-9a-f]{64})")


def hashed(token: str) -> str:
    """Return the stored form of a token, ``sha256$<salt>$<digest>`` in hex; a text of that form is returned unchanged.

    The digest is over the salt's 32 digits and the token in UTF-8, so that operators can compute it in a shell.
    """
    if _HASHED.fullmatch(token):
        return token
    salt = token_hex(16)
    return f"sha256${salt}${_digest(salt, token)}"


def _digest(salt: str, token: str) -> str:
    return hashlib.sha256(_bytes(salt + token)).hexdigest()


def _is_token_of(token: str, kept: str) -> bool:
    """Return whether a token is the hashed one, in constant time."""
    _, salt, digest = kept.split("$")
    return hmac.compare_digest(_digest(salt, token), digest)


MAX_CONCURRENCY = 65_535  # the broker's limit on the unacknowledged messages of a consumer, which has 16 bits
MAX_STUDENTS = 100_000  # of a run or a roster
MAX_WAITING_JOBS = 1_000_000
MAX_KEPT = 1_000_000  # assignments, hooks and deliveries
MAX_TOKENS = 1000

Name = Annotated[str, Field(pattern=COURSE_ID, max_length=100)]
Hashed = Annotated[str, Field(max_length=4096), AfterValidator(hashed)]


class CourseLimits(BaseModel):
    """A course's own limits, instead of the operator's for all courses; None for those that are not given."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    students: int | None = Field(default=None, ge=1, le=MAX_STUDENTS)
    waiting_jobs: int | None = Field(default=None, ge=1, le=MAX_WAITING_JOBS)
    stages: int | None = Field(default=None, ge=1, le=MAX_STAGES)
    assignments: int | None = Field(default=None, ge=1, le=MAX_KEPT)
    hooks: int | None = Field(default=None, ge=1, le=MAX_KEPT)
    deliveries: int | None = Field(default=None, ge=1, le=MAX_KEPT)


class Course(BaseModel):
    """One course, in the form of the file that ``--course-config`` names and of the collection ``course``.

    ``tokens`` permit all requests, ``query_tokens`` only reads of states and positions; plain tokens are hashed at
    once. ``weight`` is the course's relative share while several courses wait. ``concurrency`` limits its jobs in
    flight; without it only the cluster's slots do. ``pool`` names the graders that run its jobs. ``limits`` replace the
    operator's limits for all courses. Keys of other programs are ignored, as in the original.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    id: Name
    tokens: tuple[Hashed, ...] = Field(max_length=MAX_TOKENS, repr=False)
    query_tokens: tuple[Hashed, ...] = Field(default=(), max_length=MAX_TOKENS, repr=False)
    weight: float = Field(default=1.0, ge=0.01, le=100)
    concurrency: int | None = Field(default=None, ge=1, le=MAX_CONCURRENCY)
    pool: Name = "default"
    limits: CourseLimits = CourseLimits()

    def admits(self, token: str, *, query: bool = False) -> bool:
        """Return whether a token is one of the course's; ``query`` admits its query tokens, too."""
        allowed = self.tokens + self.query_tokens if query else self.tokens
        return any([_is_token_of(token, candidate) for candidate in allowed])  # noqa: C419 - constant time: compare all


class CourseConfigError(ValueError):
    """The course config file is invalid; the text names the place and the reason."""


_FILE = TypeAdapter(dict[str, dict[str, object]], config=ConfigDict(hide_input_in_errors=True))


def read_courses(path: Path) -> list[Course]:
    """Read a course config file: ``{"<course>": {"tokens": [...], "query_tokens": [...]}}``, tokens plain or hashed.

    Raises:
        CourseConfigError: The file cannot be read, or a course in it is invalid; the text names the course and the key.
    """
    try:
        courses = _FILE.validate_json(path.read_bytes())
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
    return hmac.compare_digest(_bytes(given), _bytes(expected))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

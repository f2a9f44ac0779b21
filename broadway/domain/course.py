"""Courses: their tokens, and their shares of the cluster."""

import hashlib
import hmac
import re
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from broadway.domain.access import Kind, Principal
from broadway.domain.bounds import MAX_STAGES
from broadway.domain.header_text import header_problem
from broadway.domain.mistakes import mistakes
from broadway.domain.names import COURSE_ID
from broadway.domain.text_files import TextFileError, json_of, read_text

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
MAX_STORED = 2**50  # bytes
MAX_TOKENS = 1000
MAX_TOKEN = 4096  # characters

Name = Annotated[str, Field(pattern=COURSE_ID, max_length=100)]
Hashed = Annotated[str, Field(max_length=MAX_TOKEN), AfterValidator(hashed)]
TokenName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class NamedToken(BaseModel):
    """The name of one of a course's tokens, which appears in the audit log."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: TokenName
    token: Hashed = Field(repr=False)


class CourseLimits(BaseModel):
    """A course's own limits, instead of the operator's for all courses; None for those that are not given."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    students: int | None = Field(default=None, ge=1, le=MAX_STUDENTS)
    waiting_jobs: int | None = Field(default=None, ge=1, le=MAX_WAITING_JOBS)
    stages: int | None = Field(default=None, ge=1, le=MAX_STAGES)
    assignments: int | None = Field(default=None, ge=1, le=MAX_KEPT)
    hooks: int | None = Field(default=None, ge=1, le=MAX_KEPT)
    deliveries: int | None = Field(default=None, ge=1, le=MAX_KEPT)
    stored_bytes: int | None = Field(default=None, ge=1, le=MAX_STORED)


class Course(BaseModel):
    """One course, in the form of the file that ``--course-config`` names and of the collection ``course``.

    ``tokens`` permit all requests, ``query_tokens`` only reads of states and positions; plain tokens are hashed at
    once. A token may be given with a name, as ``{"name": ..., "token": ...}``; names are kept in ``token_names``, since
    the original reads lists of texts. ``weight`` is the course's relative share while several courses wait.
    ``concurrency`` limits its jobs in flight; without it only the cluster's slots do. ``pool`` names the graders that
    run its jobs. ``limits`` replace the operator's limits for all courses. ``is_added`` marks a course that an
    operator added, which a course config leaves alone unless it names the course. Keys of other programs are ignored,
    as in the original.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    id: Name
    tokens: tuple[Hashed, ...] = Field(max_length=MAX_TOKENS, repr=False)
    query_tokens: tuple[Hashed, ...] = Field(default=(), max_length=MAX_TOKENS, repr=False)
    token_names: tuple[NamedToken, ...] = Field(default=(), max_length=2 * MAX_TOKENS, repr=False)
    weight: float = Field(default=1.0, ge=0.01, le=100)
    concurrency: int | None = Field(default=None, ge=1, le=MAX_CONCURRENCY)
    pool: Name = "default"
    limits: CourseLimits = CourseLimits()
    is_added: bool = False

    @model_validator(mode="before")
    @classmethod
    def _split_names(cls, fields: Any) -> Any:
        """Replace tokens with names by their hashes, and collect the names."""
        if not isinstance(fields, dict):
            return fields
        names = list(fields.get("token_names") or ())
        lists = {key: fields[key] for key in ("tokens", "query_tokens") if isinstance(fields.get(key), list | tuple)}
        for key, tokens in lists.items():
            read = [_hashed_entry(each) for each in tokens]
            names += [each for each in read if isinstance(each, dict)]
            lists[key] = [each.get("token") if isinstance(each, dict) else each for each in read]
        return {**fields, **lists, "token_names": names}

    def admits(self, token: str, *, query: bool = False) -> bool:
        """Return whether a token is one of the course's; ``query`` admits its query tokens, too."""
        kinds = {Kind.COURSE, Kind.QUERY} if query else {Kind.COURSE}
        return any(each.kind in kinds for each in self.principals(token))

    def principals(self, token: str) -> list[Principal]:
        """Return the principals of the course that have a token, staff first."""
        lists = ((Kind.COURSE, "token", self.tokens), (Kind.QUERY, "query token", self.query_tokens))
        names = {each.token: each.name for each in self.token_names}
        # Constant time: all tokens are compared.
        return [
            Principal(kind, names.get(candidate, f"{word} {number}"), self.id)
            for kind, word, candidates in lists
            for number, candidate in enumerate(candidates, 1)
            if _is_token_of(token, candidate)
        ]


def _hashed_entry(entry: Any) -> Any:
    """Hash the token of an entry with a name, once: the salt of each hash is another."""
    token = entry.get("token") if isinstance(entry, dict) else None
    return {**entry, "token": hashed(token)} if isinstance(token, str) and len(token) <= MAX_TOKEN else entry


class CourseConfigError(ValueError):
    """The course config file is invalid; the text names the place and the reason."""


_FILE = TypeAdapter(dict[str, dict[str, object]], config=ConfigDict(hide_input_in_errors=True))


def read_courses(path: Path) -> list[Course]:
    """Read a course config file: ``{"<course>": {"tokens": [...], "query_tokens": [...]}}``, tokens plain or hashed.

    Raises:
        CourseConfigError: The file cannot be read, or a course in it is invalid; the text names the course and the key.
    """
    try:
        courses = _FILE.validate_python(json_of(read_text(path)))
        return [_course(name, fields) for name, fields in courses.items()]
    except ValidationError as error:
        reason = mistakes(error, whole="should be an object with an object for each course")[0]
        raise CourseConfigError(f"course config {path}: {reason}") from None
    except (TextFileError, CourseConfigError) as error:
        raise CourseConfigError(f"course config {path}: {error}") from None


def _course(name: str, fields: dict[str, object]) -> Course:
    try:
        return Course.model_validate({**_usable(name, fields), "id": name, "is_added": False})
    except ValidationError as error:
        raise CourseConfigError(f"course {name!r}: {mistakes(error, Course)[0]}") from None


def _usable(name: str, fields: dict[str, object]) -> dict[str, object]:
    """Return a course's fields if each of its tokens can match that of a request.

    Raises:
        CourseConfigError: One cannot; the text names it by its place only.
    """
    for key in ("tokens", "query_tokens"):
        tokens = fields.get(key)
        for place, token in enumerate(tokens if isinstance(tokens, list) else []):
            problem = token_problem(token) if isinstance(token, str) else None
            if problem:
                raise CourseConfigError(f"course {name!r}: {key}.{place}: {problem}")
    return fields


def token_problem(token: str) -> str | None:
    """Return why no request's token can match one of a course; None if one can."""
    if token.startswith("sha256$") and not _HASHED.fullmatch(token):
        return "is no hash; expected sha256$, 32 digits of the salt, $ and 64 digits, all in lower-case hexadecimal"
    return header_problem(token)


def same_secret(given: str, expected: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(_bytes(given), _bytes(expected))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

"""Reports: the result of a submission's tests in one neutral form, whatever format its autograder has written. Pure.

Texts in a report may come from students: a reader must escape them. Points are exact decimal numbers.
"""

import re
from collections.abc import Iterable
from decimal import Context, Decimal, localcontext
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

MAX_TESTS = 10_000
MAX_TEXT = 100_000  # characters of an output, as in Gradescope's own harness
MAX_NAME = 1000  # characters of a name
MAX_GROUPS, MAX_TAGS, MAX_BOARDS, MAX_IMAGES, MAX_MESSAGES = 32, 64, 100, 100, 100
MAX_EXTRA = 1024 * 1024  # characters of the data that only the autograder understands
MAX_COUNT = 10_000  # of attempts, and of lines in a file
LARGEST = 2**53  # of points, and of the values of boards; larger whole numbers are not exact in every program
DIGITS, PLACES = 16, 6  # of points
TRUNCATED = "[...(truncated)...]"

_SIGNIFICANT = Context(prec=DIGITS)
_EXACT = 60  # digits; more than a sum of ``MAX_TESTS`` points has
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Source(StrEnum):
    """The format in which an autograder has written a report."""

    GRADESCOPE = "gradescope"
    PRAIRIELEARN = "prairielearn"
    JUNIT = "junit"
    CTRF = "ctrf"
    CLASSROOM = "classroom"
    AUTOLAB = "autolab"
    TAP = "tap"


class Visibility(StrEnum):
    """The time from which on students see a part of a report."""

    VISIBLE = "visible"
    HIDDEN = "hidden"
    AFTER_DUE = "after_due"
    AFTER_PUBLISHED = "after_published"


class Status(StrEnum):
    """The result of a test. ``info``: it is for information only, and has neither passed nor failed."""

    PASSED = "passed"
    PARTIAL = "partial"
    FAILED = "failed"
    SKIPPED = "skipped"
    INFO = "info"


class Format(StrEnum):
    """The markup of a text."""

    TEXT = "text"
    ANSI = "ansi"
    MARKDOWN = "md"
    HTML = "html"
    SIMPLE = "simple"


def storable(text: str) -> str:
    """Return a text in which U+FFFD replaces NUL and halves of surrogate pairs, which stores and encodings refuse."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def shortened(text: str, most: int = MAX_TEXT) -> str:
    """Return a text of at most ``most`` characters: of a longer one, the beginning and the end with a mark between."""
    text = storable(text)
    if len(text) <= most:
        return text
    kept = most - len(TRUNCATED)
    return f"{text[: kept - kept // 2]}{TRUNCATED}{text[len(text) - kept // 2 :]}"


def _short(most: int) -> BeforeValidator:
    return BeforeValidator(lambda value: shortened(value, most) if isinstance(value, str) else value)


def points_of(value: Decimal) -> Decimal:
    """Return points with at most 16 digits, six of them after the point.

    Raises:
        ValueError: The number is infinite, no number, or beyond 2^53.
    """
    if not value.is_finite() or value.copy_abs() > LARGEST:
        raise ValueError("should be a number from -2^53 to 2^53")
    value = round(_SIGNIFICANT.plus(value), PLACES).normalize() + 0  # no negative zero
    return value if value.copy_abs() <= LARGEST else Decimal(LARGEST).copy_sign(value)


def total(values: Iterable[Decimal | None]) -> Decimal | None:
    """Return the exact sum of the points that are not None, or None if all are."""
    known = [value for value in values if value is not None]
    with localcontext(prec=_EXACT):
        return sum(known, Decimal(0)) if known else None


def shown(value: Decimal) -> str:
    """Return points as people write them: without an exponent, and without zeros at the end."""
    return f"{value.normalize() + 0:f}"


Points = Annotated[
    Decimal,
    Field(ge=-LARGEST, le=LARGEST),
    AfterValidator(points_of),
    PlainSerializer(shown, return_type=str),
]
BoardValue = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Name = Annotated[str, _short(MAX_NAME), Field(max_length=MAX_NAME)]
Body = Annotated[str, _short(MAX_TEXT), Field(max_length=MAX_TEXT)]
Duration = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Extra = Annotated[str, Field(max_length=MAX_EXTRA)]


class _Part(BaseModel):
    """A part of a report. Unknown keys are ignored, so that later versions may add keys."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, serialize_by_alias=True)


class Text(_Part):
    """A text with its markup."""

    body: Body
    format: Format = Format.TEXT


class Location(_Part):
    """A place in a source file."""

    file: Name
    line: Annotated[int, Field(ge=0, le=LARGEST)] | None = None


class ReportedTest(_Part):
    """The result of one test.

    ``key`` names the test in every report of an assignment: its groups and its name, with a number for repeated ones.
    ``visibility`` is None for the report's own. ``extra`` is JSON text that only the autograder understands.
    """

    key: Name
    name: Text
    status: Status
    group: Annotated[list[Name], Field(max_length=MAX_GROUPS)] = []
    number: Name | None = None
    score: Points | None = None
    max: Points | None = None
    output: Text | None = None
    message: Text | None = None
    visibility: Visibility | None = None
    tags: Annotated[list[Name], Field(max_length=MAX_TAGS)] = []
    duration: Duration | None = None
    flaky: bool = False
    attempts: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 1
    location: Location | None = None
    extra: Extra | None = None


class Board(_Part):
    """An entry for a leaderboard."""

    name: Name
    value: BoardValue | Name | None = None
    order: Literal["asc", "desc"] = "desc"


class Image(_Part):
    """An image in the original file: its label, its media type, and the hash of its bytes."""

    label: Name
    media: Annotated[str, Field(pattern=r"^image/[a-z0-9.+-]{1,50}$", max_length=56)]
    sha256: Digest


class Report(_Part):
    """The result of a submission's tests.

    ``score`` is None if the submission was checked and has no points. A report that is not ``gradable`` charges the
    student no attempt. ``visibility`` holds for its totals, its messages, and each test without one of its own.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    source: Source
    score: Points | None = None
    max: Points | None = None
    gradable: bool = True
    messages: Annotated[list[Text], Field(max_length=MAX_MESSAGES)] = []
    visibility: Visibility = Visibility.VISIBLE
    log_visibility: Visibility = Visibility.HIDDEN
    tests: Annotated[list[ReportedTest], Field(max_length=MAX_TESTS)] = []
    boards: Annotated[list[Board], Field(max_length=MAX_BOARDS)] = []
    images: Annotated[list[Image], Field(max_length=MAX_IMAGES)] = []
    duration: Duration | None = None
    extra: Extra | None = None

    def stored(self) -> str:
        """Return the report as JSON text, which ``read`` reads; values that are the default are left out."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def read(cls, text: str) -> "Report":
        """Read a stored report.

        Raises:
            ValueError: The text is not a report.
        """
        return cls.model_validate_json(text)

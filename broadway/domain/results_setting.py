"""A stage's setting ``results`` in its long form: the format of its results files, and their place. Pure."""

from collections.abc import Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FormatName = Literal["gradescope", "prairielearn", "junit", "ctrf", "classroom", "autolab", "tap"]

MAX_PATTERNS = 100
MAX_POINTS = 1_000_000.0

_PART = r"[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,63}"
_SEVERAL = ("junit", "classroom")  # formats with a file per class or runner
_PRINTED = ("autolab", "tap")  # formats that a program may print
_WITHOUT_POINTS = ("junit", "ctrf", "tap")
_WILD = ("*", "?")

ResultsPath = Annotated[str, Field(pattern=rf"^{_PART}(/{_PART}){{0,7}}$", max_length=519)]


class PointsOfTests(BaseModel):
    """The points of each test whose name matches a pattern with ``*`` and ``?``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tests: Annotated[str, Field(min_length=1, max_length=200)]
    points: Annotated[int | float, Field(ge=0, le=MAX_POINTS)]


class ResultsSetting(BaseModel):
    """The format of a stage's results, and the path of their file below ``/job``.

    The path of JUnit's and Classroom's files may have ``*`` and ``?``. Autolab's and TAP's results without a path are
    what the stage prints. ``points`` are those of tests in formats without points: the first entry whose pattern
    matches a test counts, and other tests have one point each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: FormatName
    path: ResultsPath | None = None
    points: Annotated[list[PointsOfTests], Field(max_length=MAX_PATTERNS)] = []

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.path is None and self.format not in _PRINTED:
            raise ValueError("path: is missing; only results of autolab and tap may be printed instead")
        if self.is_glob and self.format not in _SEVERAL:
            raise ValueError("path: only results of junit and classroom may be several files, with * and ?")
        if self.points and self.format not in _WITHOUT_POINTS:
            raise ValueError(f"points: results of {self.format} have points of their own")
        return self

    @property
    def is_glob(self) -> bool:
        """True if the path names any number of files."""
        return self.path is not None and any(sign in self.path for sign in _WILD)

    @property
    def needs_success(self) -> bool:
        """True if the results count after exit code 0 only; other formats' programs exit with 1 if a test fails."""
        return self.format == "prairielearn"

    @property
    def worth(self) -> tuple[tuple[str, Decimal], ...]:
        """The patterns of tests with their points, in order."""
        return tuple((each.tests, Decimal(str(each.points))) for each in self.points)

    def may_lie_in(self, directories: Sequence[str]) -> str | None:
        """Return a directory in which a file of the path may lie, or which may lie below such a file; else None."""
        parts = self.path.split("/") if self.path else []
        return next((each for each in directories if parts and _meet(parts, each.split("/"))), None)


def _meet(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    return all(fnmatchcase(name, each) for each, name in zip(pattern, parts, strict=False))

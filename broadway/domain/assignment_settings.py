"""The settings of an assignment beside its pipelines: points, files that students hand in, the policy. Pure.

They are a document of their own with versions, since the original's interface replaces all of an assignment's pipelines
and knows no settings.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from broadway.domain.files import (
    MAX_FILES,
    MAX_PATH,
    MAX_UNPACKED,
    MAX_UPLOAD,
    FileLimits,
    FileRefusedError,
    clean_path,
    shown,
)
from broadway.domain.policy import Policy
from broadway.domain.webhook import Quota

MAX_POINTS = Decimal(1_000_000)
MOST_UPLOAD = 1024 * 1024 * 1024  # bytes that an assignment may allow
MOST_FILES = 10_000  # files that an assignment may allow
MAX_PATTERNS = 100
MAX_PATTERN = 255  # characters
MOST_NAMED = 20  # files in a refusal


def _clean_pattern(pattern: str) -> str:
    try:
        return clean_path(pattern)
    except FileRefusedError as error:
        raise ValueError(str(error)) from None


Pattern = Annotated[str, Field(min_length=1, max_length=min(MAX_PATTERN, MAX_PATH)), AfterValidator(_clean_pattern)]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=MAX_PATTERNS)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Start(StrEnum):
    """The moment at which a submission is graded."""

    AT_ONCE = "at_once"
    WITH_ROSTER = "with_roster"


class FileRules(_Part):
    """The files of a submission.

    Patterns have ``*``, which also matches slashes, and ``?``; case counts. Each of ``required`` must match a file, and
    each file must match one of ``allowed`` or ``required`` if ``allowed`` is not empty.
    """

    max_bytes: int = Field(
        default=MAX_UPLOAD, ge=1, le=MOST_UPLOAD, description="the most bytes of a submission as it is sent"
    )
    max_unpacked_bytes: int = Field(
        default=MAX_UNPACKED, ge=1, le=MOST_UPLOAD, description="the most bytes of all its files together"
    )
    max_files: int = Field(default=MAX_FILES, ge=1, le=MOST_FILES)
    required: Patterns = ()
    allowed: Patterns = ()
    without_top_directory: bool = Field(
        default=False, description="whether a directory that holds all files of an archive is left out"
    )

    @property
    def limits(self) -> FileLimits:
        """The bounds of one submission."""
        return FileLimits(upload=self.max_bytes, unpacked=self.max_unpacked_bytes, files=self.max_files)

    def names(self, path: str) -> bool:
        """Return whether a pattern of the assignment matches a file."""
        return any(fnmatchcase(path, each) for each in (*self.required, *self.allowed))

    def check(self, paths: list[str]) -> None:
        """Return if the files of a submission are those that the assignment expects.

        Raises:
            FileRefusedError: A file is missing, or is not expected; the text names it for the student.
        """
        if not paths:
            raise FileRefusedError("there is no file in this submission")
        missing = [each for each in self.required if not any(fnmatchcase(path, each) for path in paths)]
        if missing:
            raise FileRefusedError(f"{_named(missing)} is missing; the files are {_named(sorted(paths))}")
        foreign = [path for path in paths if not self.names(path)] if self.allowed else []
        if foreign:
            wanted = (*self.required, *self.allowed)
            raise FileRefusedError(f"{_named(foreign)} is not expected; expected {_named(wanted)}")


class AssignmentSettings(_Part):
    """The settings of an assignment.

    ``points`` is the number of points that a submission can get, whatever the tests report; null if only reports count.
    """

    points: Annotated[Decimal, Field(gt=0, le=MAX_POINTS, allow_inf_nan=False, decimal_places=4)] | None = None
    files: FileRules = FileRules()
    starts: Start = Field(
        default=Start.AT_ONCE,
        description="`at_once`: a submission is graded when it arrives; `with_roster`: by the next run for the roster",
    )
    only_latest: bool = Field(
        default=False, description="whether a submission supersedes the student's earlier ones that still wait"
    )
    quota: Quota | None = Field(default=None, description="the submissions that a student may make within a time")
    policy: Policy = Field(default=Policy(), description="the rules by which submissions become a grade")


@dataclass(frozen=True, slots=True)
class SettingsVersion:
    """A version of an assignment's settings; the version of an assignment without settings is 0."""

    settings: AssignmentSettings
    version: int = 0
    at: datetime | None = None
    by: str = ""


def _named(names: "list[str] | tuple[str, ...]") -> str:
    some = ", ".join(map(shown, names[:MOST_NAMED]))
    return some if len(names) <= MOST_NAMED else f"{some} and {len(names) - MOST_NAMED} more"

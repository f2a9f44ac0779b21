"""Artifacts: files that a job's stages leave for staff, by the patterns that the stages declare. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import AfterValidator, Field

MAX_SIZE = 10 * 1024 * 1024  # bytes of a job's artifacts together
MAX_COUNT = 100  # files of a job
MAX_PATTERNS = 16  # of a stage
MAX_PATTERN = 8 * 65  # characters
MAX_LEFT_OUT = 100  # files that are named with the reason why they are left out
MAX_REASON = 200  # characters of such a reason
MAX_NAME = 1000  # characters of such a file's name, as shown
KEPT_FOR = 30  # days


def _pattern(text: str) -> str:
    """Return a pattern of a path if each of its names has a meaning of its own."""
    if any("**" in name for name in text.split("/")):
        raise ValueError(f"{text}: ** is not a pattern; * matches any part of one name")
    return text


# A path below /job as in `assignment.JobPath`, with * and ? in its names.
_NAME = r"[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,63}"
ArtifactPattern = Annotated[
    str, Field(pattern=rf"^{_NAME}(/{_NAME}){{0,7}}$", max_length=MAX_PATTERN), AfterValidator(_pattern)
]
ArtifactPatterns = Annotated[list[ArtifactPattern], Field(max_length=MAX_PATTERNS)]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored artifact: its path below ``/job``, the number of its stage, and its content's hex SHA-256 and size."""

    path: str
    stage: int
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file, or a pattern, that matched and is not kept, with the reason. The name is safe to show."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The artifacts of one execution of a job in a generation, as its grader sent them.

    ``left_out_more`` counts files that are left out besides those in ``left_out``.
    """

    job: str
    generation: int
    execution: str
    grader: str
    at: datetime
    expires_at: datetime
    files: tuple[Artifact, ...] = field(default=(), repr=False)
    left_out: tuple[LeftOut, ...] = field(default=(), repr=False)
    left_out_more: int = 0

    @property
    def id(self) -> str:
        return manifest_id(self.job, self.generation, self.execution, self.grader)

    def file(self, path: str) -> Artifact | None:
        """Return the artifact with a path, or None."""
        return next((each for each in self.files if each.path == path), None)


def manifest_id(job: str, generation: int, execution: str, grader: str) -> str:
    """Return the id of the manifest of an execution: one of each, and no grader can take the place of another's."""
    return f"{job}:{generation}:{execution}:{grader}"


def declared(stages: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether any stage, as posted, declares artifacts."""
    return any(stage.get("artifacts") for stage in stages)


def may_match(patterns: Collection[str], names: Sequence[str]) -> bool:
    """Return whether a file below a directory, with these names in its path, may match one of some patterns."""
    return any(_begins(pattern.split("/"), names) for pattern in patterns)


def matches(patterns: Collection[str], names: Sequence[str]) -> bool:
    """Return whether a file with these names in its path matches one of some patterns, name by name."""
    return any(
        len(parts) == len(names) and _all_match(parts, names) for parts in (each.split("/") for each in patterns)
    )


def _begins(parts: Sequence[str], names: Sequence[str]) -> bool:
    return len(parts) > len(names) and _all_match(parts, names)


def _all_match(parts: Sequence[str], names: Sequence[str]) -> bool:
    return all(fnmatchcase(name, part) for name, part in zip(names, parts, strict=False))

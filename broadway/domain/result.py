"""The results of a job's stages, as they are stored: written one way, and read from any grader.

The original's graders and earlier versions tell less, and a broken grader may tell anything: where an entry does not
have what it should, the field is None or empty.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that one stage used: times in seconds, sizes in bytes. None for those that its host cannot tell.

    ``image`` is the id of the image that it ran, its digest. ``start_seconds`` include the wait for a turn,
    ``peak_memory`` is the most that it used at a time. ``told`` is the stored document, if this was read from one.
    """

    image: str | None
    create_seconds: float | None = None
    start_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    pull_seconds: float | None = None
    wall_seconds: float | None = None
    output_bytes: int | None = None
    told: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def read(cls, told: object) -> Self | None:
        """The usage in a stored document, or None."""
        if not isinstance(told, dict):
            return None
        return cls(
            image=_of(str, told.get("image")),
            create_seconds=_number(told.get("create_seconds")),
            start_seconds=_number(told.get("start_seconds")),
            cpu_seconds=_number(told.get("cpu_seconds")),
            peak_memory=_of(int, told.get("peak_memory")),
            pull_seconds=_number(told.get("pull_seconds")),
            wall_seconds=_number(told.get("wall_seconds")),
            output_bytes=_of(int, told.get("output_bytes")),
            told=told,
        )

    def document(self) -> dict[str, Any]:
        """The usage as it is stored; one that was read stays as it was, with the keys that its grader knew."""
        if self.told is not None:
            return dict(self.told)
        return {
            "image": self.image,
            "create_seconds": self.create_seconds,
            "start_seconds": self.start_seconds,
            "cpu_seconds": self.cpu_seconds,
            "peak_memory": self.peak_memory,
            "pull_seconds": self.pull_seconds,
            "wall_seconds": self.wall_seconds,
            "output_bytes": self.output_bytes,
        }


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a submission. ``document`` is the results file itself, as JSON text."""

    score: float | None
    max_score: float | None
    document: str | None

    @classmethod
    def read(cls, told: object) -> Self | None:
        """The scores in a stored document, or None."""
        if not isinstance(told, dict) or not told:
            return None
        score, max_score = _number(told.get("score")), _number(told.get("max_score"))
        return cls(score, max_score, _of(str, told.get("document")))

    @property
    def size(self) -> int:
        """Characters of the results file."""
        return len(self.document or "")


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of one stage.

    ``state`` is the container engine's own account (docker inspect's State); None for a stage that never ran.
    ``killed_for`` is the limit that the stage exceeded, ``signal`` the number of the signal that ended it. ``streams``
    tells whose the lines of its output are: pairs of 1 (stdout), 2 (stderr) or 0 (a line of the grader's own) and the
    number of lines in a row.
    """

    success: bool | None = None
    state: Mapping[str, Any] | None = None
    killed: bool | None = None
    killed_for: str | None = None
    signal: int | None = None
    usage: Usage | None = None
    streams: Sequence[tuple[int, int]] = ()
    scores: Scores | None = None

    @classmethod
    def read(cls, entry: object) -> Self:
        """The result in an entry of a job's stored results, whichever grader it is from."""
        if not isinstance(entry, dict):
            return cls()
        return cls(
            success=_of(bool, entry.get("success")),
            state=_of(dict, entry.get("data")),
            killed=_of(bool, entry.get("killed")),
            killed_for=_of(str, entry.get("killed_for")),
            signal=_of(int, entry.get("signal")),
            usage=Usage.read(entry.get("usage")),
            streams=_streams(entry.get("streams")),
            scores=Scores.read(entry.get("scores")),
        )

    def entry(self) -> dict[str, Any]:
        """The result as it is stored: as the original shapes it, with what the stage used and scored."""
        if self.state is None:
            return {"success": self.success}
        entry: dict[str, Any] = {
            "data": dict(self.state),
            "killed": self.killed,
            "killed_for": self.killed_for,
            "signal": self.signal,
            "success": self.success,
        }
        if self.usage:
            entry["usage"] = self.usage.document()
        if self.streams:
            entry["streams"] = [list(pair) for pair in self.streams]
        if self.scores:
            entry["scores"] = asdict(self.scores)
        return entry

    @property
    def exit_code(self) -> int | None:
        return _of(int, self._told("ExitCode"))

    @property
    def out_of_memory(self) -> bool | None:
        """Whether one of its processes ran out of memory."""
        return _of(bool, self._told("OOMKilled"))

    @property
    def started_at(self) -> datetime | None:
        return _time(self._told("StartedAt"))

    @property
    def finished_at(self) -> datetime | None:
        return _time(self._told("FinishedAt"))

    def _told(self, key: str) -> object:
        return (self.state or {}).get(key)


@dataclass(frozen=True, slots=True)
class JobLog:
    """The output of one execution; bounded by its grader."""

    job_id: str
    execution_id: str
    stdout: str
    stderr: str


def document_size(entry: Mapping[str, Any]) -> int:
    """Characters of the results file in an entry of a job's stored results."""
    scores = Scores.read(entry.get("scores"))
    return scores.size if scores else 0


def _of(kind: type[Kind], value: object) -> Kind | None:
    return value if isinstance(value, kind) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond all floats
        return None


def _streams(told: object) -> tuple[tuple[int, int], ...]:
    """The pairs that an entry has, or none at all if one of them is malformed."""
    pairs = told if isinstance(told, list) else []
    if not all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_count, pair)) for pair in pairs):  # noqa: PLR2004
        return ()
    return tuple((stream, lines) for stream, lines in pairs)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _time(text: object) -> datetime | None:
    """A time as Docker tells it, which is in the year 1 if there is none."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=time.tzinfo or UTC) if time and time.year > 1 else None

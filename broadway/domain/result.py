"""The stored results of a job's stages: written in one form, and read from any grader.

The original's graders and earlier versions report less, and a broken grader may report anything. A field whose part of
the entry is missing or malformed is None or empty.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from broadway.domain.originals import Reported
from broadway.domain.report import MAX_NAME, Report

Kind = TypeVar("Kind")


REPORT = "report"  # the key of a report in an entry of a job's results
Streams = Sequence[tuple[int, int]]  # the streams of a stage's output: number and lines, in the order of the output


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that one stage used: times in seconds, sizes in bytes; None if its host cannot measure them.

    ``image`` is the id (digest) of the image that it ran. ``start_seconds`` include the wait at the start gate.
    ``peak_memory`` is the most memory that it used at a time. ``stored`` is the document from which the usage was read.
    """

    image: str | None
    create_seconds: float | None = None
    start_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    pull_seconds: float | None = None
    wall_seconds: float | None = None
    output_bytes: int | None = None
    stored: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def read(cls, stored: object) -> Self | None:
        """Return the usage in a stored document, or None."""
        if not isinstance(stored, dict):
            return None
        return cls(
            image=_of(str, stored.get("image")),
            create_seconds=_number(stored.get("create_seconds")),
            start_seconds=_number(stored.get("start_seconds")),
            cpu_seconds=_number(stored.get("cpu_seconds")),
            peak_memory=_of(int, stored.get("peak_memory")),
            pull_seconds=_number(stored.get("pull_seconds")),
            wall_seconds=_number(stored.get("wall_seconds")),
            output_bytes=_of(int, stored.get("output_bytes")),
            stored=stored,
        )

    def document(self) -> dict[str, Any]:
        """Return the usage for storing; a usage that was read keeps its document, including keys of its grader."""
        if self.stored is not None:
            return dict(self.stored)
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
    def read(cls, stored: object) -> Self | None:
        """Return the scores in a stored document, or None."""
        if not isinstance(stored, dict) or not stored:
            return None
        score, max_score = _number(stored.get("score")), _number(stored.get("max_score"))
        return cls(score, max_score, _of(str, stored.get("document")))

    @classmethod
    def of(cls, report: Report) -> Self | None:
        """Return the scores of a report, or None if it has no points."""
        if report.score is None:
            return None
        return cls(float(report.score), None if report.max is None else float(report.max), None)

    @property
    def size(self) -> int:
        """Characters of the results file."""
        return len(self.document or "")


@dataclass(frozen=True, slots=True)
class ReportNote:
    """The facts about a stage's report that its result keeps; the report itself is stored apart.

    ``source`` is the report's format, None if there is only a ``problem``. A submission that is not ``gradable``
    charges its student no attempt.
    """

    source: str | None = None
    gradable: bool = True
    problem: str = ""

    @classmethod
    def of(cls, reported: Reported) -> Self:
        """Return the note about a report."""
        if reported.report is None:
            return cls(problem=reported.problem)
        return cls(reported.report.source.value, reported.report.gradable)

    @classmethod
    def read(cls, stored: object) -> Self | None:
        """Return the note in a stored document, or None."""
        if not isinstance(stored, dict):
            return None
        inner = stored.get("report")
        holder = inner if isinstance(inner, dict) else stored  # a recorder of an earlier version keeps all of it
        source, gradable = _of(str, holder.get("source")), _of(bool, holder.get("gradable"))
        problem = _of(str, stored.get("problem")) or ""
        return cls(source[:MAX_NAME] if source else None, gradable is not False, problem)

    def document(self) -> dict[str, Any]:
        """Return the note for storing."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of one stage.

    ``state`` is the container engine's own report (State of docker inspect); None for a stage that never ran.
    ``killed_for`` is the limit that the stage exceeded, ``signal`` the number of the signal that ended it. ``streams``
    gives the source of each line of its output, as pairs of 1 (stdout), 2 (stderr) or 0 (the grader itself) and the
    number of consecutive lines. ``refused_results`` is the beginning of a results file that is not valid. ``reported``
    is the report with its files, on its way from the grader only; ``note`` has the facts about it that are kept.
    """

    success: bool | None = None
    state: Mapping[str, Any] | None = None
    killed: bool | None = None
    killed_for: str | None = None
    signal: int | None = None
    usage: Usage | None = None
    streams: Streams = ()
    scores: Scores | None = None
    refused_results: str | None = None
    reported: Reported | None = None
    note: ReportNote | None = None

    @classmethod
    def read(cls, entry: object) -> Self:
        """Return the result in an entry of a job's stored results, from any grader."""
        if not isinstance(entry, dict):
            return cls()
        return cls(
            success=_of(bool, entry.get("success")),
            state=_of(dict, entry.get("data")),
            killed=_of(bool, entry.get("killed")),
            killed_for=_of(str, entry.get("killed_for")),
            signal=_of(int, entry.get("signal")),
            usage=Usage.read(entry.get("usage")),
            streams=read_streams(entry.get("streams")),
            scores=Scores.read(entry.get("scores")),
            refused_results=_of(str, entry.get("refused_results")),
            note=ReportNote.read(entry.get(REPORT)),
        )

    def entry(self) -> dict[str, Any]:
        """Return the entry for storing: in the original's shape, with our usage, streams and scores."""
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
        if self.refused_results is not None:
            entry["refused_results"] = self.refused_results
        if self.reported:
            entry |= _report_fields(self.reported)
        return entry

    @property
    def size(self) -> int:
        """Characters of the results file and of the report."""
        return (self.scores.size if self.scores else 0) + (self.reported.size if self.reported else 0)

    @property
    def exit_code(self) -> int | None:
        return _of(int, self._in_state("ExitCode"))

    @property
    def out_of_memory(self) -> bool | None:
        """True if one of its processes ran out of memory; None if the engine does not report it."""
        return _of(bool, self._in_state("OOMKilled"))

    @property
    def started_at(self) -> datetime | None:
        return _time(self._in_state("StartedAt"))

    @property
    def finished_at(self) -> datetime | None:
        return _time(self._in_state("FinishedAt"))

    def _in_state(self, key: str) -> object:
        return (self.state or {}).get(key)


@dataclass(frozen=True, slots=True)
class JobLog:
    """The output of one execution; bounded by its grader.

    ``streams`` has the streams of each stage, in the form of ``StageResult.streams``; empty for logs that were stored
    without them.
    """

    job_id: str
    execution_id: str
    stdout: str
    stderr: str
    streams: Sequence[Streams] = ()


def _report_fields(reported: Reported) -> dict[str, Any]:
    scores = Scores.of(reported.report) if reported.report else None
    fields: dict[str, Any] = {REPORT: reported.model_dump(mode="json", exclude_defaults=True)}
    return fields | ({"scores": asdict(scores)} if scores else {})


def document_size(entry: Mapping[str, Any]) -> int:
    """Return the number of characters of the results file and the report in an entry of a job's results."""
    scores = Scores.read(entry.get("scores"))
    report = len(json.dumps(entry[REPORT])) if REPORT in entry else 0
    return report + (scores.size if scores else 0)


def _of(kind: type[Kind], value: object) -> Kind | None:
    return value if isinstance(value, kind) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond all floats
        return None


def read_streams(stored: object) -> Streams:
    """Return the pairs of an entry, or an empty tuple if one is malformed."""
    pairs = stored if isinstance(stored, list) else []
    if not all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_count, pair)) for pair in pairs):  # noqa: PLR2004
        return ()
    return tuple((stream, lines) for stream, lines in pairs)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _time(text: object) -> datetime | None:
    """Return a time in Docker's form, or None; Docker's year 1 means that there is no time."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=time.tzinfo or UTC) if time and time.year > 1 else None

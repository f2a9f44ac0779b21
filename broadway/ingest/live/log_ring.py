"""The latest lines of a running job's log, for readers at any position. Pure."""

import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from broadway.ingest.reads.log_lines import log_lines
from broadway.messages.live_logs import LogChunk

KEPT = 512 * 1024  # bytes of JSON of one job, enough for the 256 kB of text that a grader holds in usual lines
ENTRY_COST = 200  # bytes, besides the JSON
_ID = re.compile(r"(\d{1,6})-(\d{1,3})-(\d{1,15})")

Sees = Callable[[int], bool]  # whether a reader may see the log of a stage, by the stage's index


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """The place up to which a reader has a log: an attempt by its number, a stage's index, and lines of the stage."""

    attempt: int = 0
    stage: int = 0
    line: int = 0

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return a position in the form of an event's id, or None."""
        found = _ID.fullmatch(text)
        return cls(*map(int, found.groups())) if found else None

    def __str__(self) -> str:
        return f"{self.attempt}-{self.stage}-{self.line}"


@dataclass(frozen=True, slots=True)
class LogEvent:
    """An event for a reader: its name, the reader's position after it, and JSON."""

    name: str
    id: str
    data: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """Lines of one stage as the JSON of their event; ``line`` and ``offset`` as in ``LogChunk``."""

    stage: int
    line: int
    offset: int
    count: int
    data: str

    @property
    def end(self) -> int:
        return self.offset + self.count

    @property
    def cost(self) -> int:
        return len(self.data) + ENTRY_COST

    def without(self, skipped: int) -> str:
        """Return the JSON of the lines after the first ``skipped`` ones."""
        if not skipped:
            return self.data
        event = json.loads(self.data)
        return _json({**event, "line": event["line"] + skipped, "lines": event["lines"][skipped:]})


@dataclass(slots=True)
class LogRing:
    """The last lines of a job's current attempt, of at most about ``kept`` bytes.

    ``attempt`` is its number, from 1; 0 before the first one. ``begun``: the grader's backlog has arrived, so that
    later chunks complete it. ``outcome`` is the job's, once it has ended.
    """

    kept: int = KEPT
    attempt: int = 0
    execution_id: str = ""
    note: str = ""
    begun: bool = False
    outcome: str | None = None
    _entries: deque[_Entry] = field(default_factory=deque)
    _cost: int = 0
    _end: int = 0  # lines of the attempt
    _earlier: tuple[int, int] = (0, 0)  # the number of the previous attempt, and its lines

    @property
    def cost(self) -> int:
        """The bytes that it holds."""
        return self._cost

    def begin(self, attempt: int, execution_id: str, note: str = "") -> None:
        """Begin an attempt; ``note`` is the reason for which it has no live log."""
        self._earlier = (self.attempt, self._end)
        self.attempt, self.execution_id, self.note, self.begun = attempt, execution_id, note, False
        self._entries.clear()
        self._cost = self._end = 0

    def add(self, chunk: LogChunk) -> bool:
        """Add the lines of a chunk that are new; return whether there are any.

        Chunks of other executions, and those before the backlog, are dropped.
        """
        if chunk.execution_id != self.execution_id or not (self.begun or chunk.begins):
            return False
        self.begun = True
        lines = log_lines(chunk.text, [[]] * chunk.stage + [chunk.streams])
        known = max(0, self._end - chunk.offset)
        if known >= len(lines):
            return False
        new = [line.model_dump(include={"at", "stream", "text"}) for line in lines[known:]]
        first = chunk.line + known
        data = _json({"attempt": self.attempt, "stage": chunk.stage, "line": first + 1, "lines": new})
        entry = _Entry(chunk.stage, first, chunk.offset + known, len(new), data)
        self._entries.append(entry)
        self._end = entry.end
        self._cost += entry.cost
        while self._cost > self.kept and len(self._entries) > 1:
            self._cost -= self._entries.popleft().cost
        return True

    def has_more_of(self, attempt: int, offset: int | None) -> bool:
        """Return whether the previous attempt, if that is ``attempt``, had more than ``offset`` lines."""
        number, lines = self._earlier
        return attempt == number != 0 and offset != lines

    def after(self, offset: int | None) -> list[_Entry]:
        """Return the entries with lines beyond the attempt's first ``offset`` lines; all of them for None."""
        found: list[_Entry] = []
        for entry in reversed(self._entries):
            if offset is not None and entry.end <= offset:
                break
            found.append(entry)
        return found[::-1]


@dataclass(slots=True)
class Cursor:
    """A reader's place in a job's log. It takes the lines after it, each once, and learns of lines that it missed."""

    position: Position = field(default_factory=Position)
    sees: Sees = lambda _: True
    _offset: int | None = None  # lines of the attempt that it has; None if only its position is known
    _attempt: int = 0  # the announced one
    _stage: int = -1  # the announced one
    _last: int = 0  # the stage of the last line up to its place, which it may not see

    def __post_init__(self) -> None:
        self._last = self.position.stage

    def take(self, ring: LogRing) -> list[LogEvent]:
        """Return the events that the reader has not got, in order."""
        events = [*self._attempts(ring), *self._lines(ring)] if ring.attempt else []
        if ring.outcome is not None:
            ending = {"attempt": ring.attempt, "outcome": ring.outcome}
            events.append(LogEvent("end", str(self.position), _json(ending)))
        return events

    def _attempts(self, ring: LogRing) -> Iterator[LogEvent]:
        if self._attempt == ring.attempt:
            return
        self._attempt, self._stage = ring.attempt, -1
        if self.position.attempt != ring.attempt:
            if ring.has_more_of(self.position.attempt, self._offset):
                yield self._missing(self.position.attempt, None, None)
            self.position, self._offset, self._last = Position(ring.attempt), 0, 0
        about = {"attempt": ring.attempt, "id": ring.execution_id, "live": not ring.note, "note": ring.note}
        yield LogEvent("attempt", str(self.position), _json(about))

    def _lines(self, ring: LogRing) -> Iterator[LogEvent]:
        for entry in ring.after(self._offset):
            skipped = self._known(entry)
            if skipped >= entry.count:
                continue
            yield from self._gap(entry, skipped)
            self._offset, self._last = entry.end, entry.stage
            if self.sees(entry.stage):
                yield from self._announced(entry.stage)
                self.position = Position(ring.attempt, entry.stage, entry.line + entry.count)
                yield LogEvent("lines", str(self.position), entry.without(skipped))

    def _known(self, entry: _Entry) -> int:
        """Return the number of an entry's lines that the reader has."""
        if self._offset is not None:
            return max(0, self._offset - entry.offset)
        if entry.stage < self.position.stage:
            return entry.count
        if entry.stage > self.position.stage:
            return 0
        known = self.position.line - entry.line
        if known >= 0:
            self._offset = entry.offset + known
        return max(0, known)

    def _gap(self, entry: _Entry, skipped: int) -> Iterator[LogEvent]:
        """Report lines that are missing before an entry's, if the reader may see one of their stages.

        Their number is unknown if the reader may not see all of these stages, or has resumed before them.
        """
        begin, earlier = entry.offset + skipped, range(self._last, entry.stage)
        if self._offset is not None and begin <= self._offset:
            return
        of_stage = entry.line + skipped - (self.position.line if entry.stage == self.position.stage else 0)
        total = of_stage if not earlier else None if self._offset is None else begin - self._offset
        has_others = total is None or total > of_stage
        if (of_stage > 0 and self.sees(entry.stage)) or (has_others and any(map(self.sees, earlier))):
            is_open = all(map(self.sees, (*earlier, entry.stage)))
            yield self._missing(
                self._attempt, entry.stage if self.sees(entry.stage) else None, total if is_open else None
            )

    def _missing(self, attempt: int, stage: int | None, lines: int | None) -> LogEvent:
        return LogEvent("gap", str(self.position), _json({"attempt": attempt, "stage": stage, "lines": lines}))

    def _announced(self, stage: int) -> Iterator[LogEvent]:
        if stage != self._stage:
            self._stage = stage
            yield LogEvent("stage", str(self.position), _json({"attempt": self._attempt, "stage": stage}))


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"))

"""The latest output of one execution, held for readers who may come, and the position up to which it is published."""

import threading
from collections import deque
from dataclasses import dataclass, field
from itertools import groupby

from broadway.grader.sandbox.output import Line, cost_of, line_count, lines_of

KEPT = 256 * 1024  # bytes of text


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines of one stream that arrived together: their stage, and the numbers of lines before them."""

    stage: int
    stream: int
    at: int
    data: bytes
    line: int
    offset: int
    lines: int
    cost: int

    @property
    def end(self) -> int:
        return self.offset + self.lines


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive lines of one stage; ``line``, ``offset`` and ``begins`` are those of ``LogChunk``."""

    stage: int
    line: int
    offset: int
    lines: list[Line]
    begins: bool

    @property
    def size(self) -> int:
        """The bytes of their text."""
        return sum(line.size for line in self.lines)

    @property
    def streams(self) -> list[tuple[int, int]]:
        """The origin of the lines: pairs of a stream and a number of consecutive lines."""
        return [(stream, sum(1 for _ in group)) for stream, group in groupby(self.lines, key=lambda line: line.stream)]


@dataclass(slots=True)
class LiveLog:
    """The last lines of an execution's output, of at most about ``kept`` bytes of text.

    The threads that read output add to it and never wait: lines that are not published before they fall out at the
    other end are missing in the live log, visibly, by their offsets.
    """

    kept: int = KEPT
    _blocks: deque[_Block] = field(default_factory=deque)
    _cost: int = 0
    _end: int = 0  # lines of the execution so far
    _lines: dict[int, int] = field(default_factory=dict)  # so far, by stage
    _published: int = 0  # lines of the execution
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hear(self, stage: int, stream: int, data: bytes, at: int) -> None:
        """Add whole lines; see ``ports.Listener``."""
        count, cost = line_count(data), cost_of(data)
        with self._lock:
            line = self._lines.get(stage, 0)
            self._blocks.append(_Block(stage, stream, at, data, line, self._end, count, cost))
            self._lines[stage] = line + count
            self._end += count
            self._cost += cost
            while self._cost > self.kept and len(self._blocks) > 1:
                self._cost -= self._blocks.popleft().cost

    def rewind(self) -> None:
        """Publish all lines that are held again."""
        self._published = 0

    def take(self, size: int) -> Piece | None:
        """Return the next lines to publish, of at most ``size`` bytes of text but at least one; None if there are none.

        They are of one stage, and count as published from now on.
        """
        with self._lock:
            blocks = [block for block in self._blocks if block.end > self._published]
        taken: list[Line] = []
        for block in blocks:
            if taken and (block.stage != blocks[0].stage or size <= 0):
                break
            for line in self._unpublished(block):
                size -= line.size
                if taken and size < 0:
                    break
                taken.append(line)
        if not taken:
            return None
        first, begin = blocks[0], max(self._published, blocks[0].offset)
        begins = self._published == 0
        self._published = begin + len(taken)
        return Piece(first.stage, first.line + begin - first.offset, begin, taken, begins)

    def _unpublished(self, block: _Block) -> list[Line]:
        skipped = max(0, self._published - block.offset)
        return list(lines_of(block.stream, block.data, block.at))[skipped:]

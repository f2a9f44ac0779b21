"""What a container prints, as text of bounded size: lines with the time they arrived, of head and tail only."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

LONGEST_LINE = 16 * 1024  # bytes; longer ones are cut, as the engine's own log drivers do
STAMP = 31  # characters that the time puts before a line
_SLICE = 64 * 1024  # bytes taken at once, so that one huge chunk is not kept whole


@dataclass(frozen=True, slots=True)
class _Block:
    """Whole lines of one stream, not yet split, that were complete at ``at`` (nanoseconds since the epoch)."""

    stream: int
    at: int
    data: bytes

    @property
    def cost(self) -> int:
        """Bytes of text that this makes at least: bytes that are no UTF-8 make more."""
        return len(self.data) + STAMP * max(1, self.data.count(b"\n"))


@dataclass(slots=True)
class _Blocks:
    """Blocks and what they cost together."""

    blocks: deque[_Block] = field(default_factory=deque)
    cost: int = 0

    def append(self, block: _Block) -> None:
        self.blocks.append(block)
        self.cost += block.cost

    def shrink(self, cost: int) -> None:
        """Drop the oldest blocks that are not needed to keep ``cost``."""
        while self.blocks and self.cost - self.blocks[0].cost >= cost:
            self.cost -= self.blocks.popleft().cost


@dataclass(frozen=True, slots=True)
class _Line:
    """One line as it will be read, its size in bytes of UTF-8, and how many bytes of output it stands for."""

    stream: int
    text: str
    size: int
    raw: int


class OutputLog:
    """Collects the output of one container, in memory of bounded size.

    A program that floods can make millions of lines, so nothing is done per line before ``text``: chunks are kept
    as they came, a little more than will be needed. The result does not depend on how the output was cut into chunks.
    """

    def __init__(self, *, head: int, tail: int, longest_line: int = LONGEST_LINE) -> None:
        """Keep the first ``head`` and the last ``tail`` bytes of text, in whole lines of a limited length in bytes."""
        self.total = 0
        self._limits = (head, tail)
        self._longest_line = longest_line
        self._head = _Blocks()
        self._tail = _Blocks()
        self._unfinished: dict[int, _Block] = {}

    def feed(self, stream: int, data: bytes, at: int) -> None:
        """Take what arrived on a stream (1 is stdout, 2 is stderr) at a time in nanoseconds since the epoch."""
        self.total += len(data)
        for start in range(0, len(data), _SLICE):
            self._take(stream, data[start : start + _SLICE], at)

    def text(self) -> str:
        """All that is kept, one line each, with a line that tells how many bytes were dropped between head and tail."""
        return self.kept()[0]

    def kept(self) -> tuple[str, list[tuple[int, int]]]:
        """The text, and of which stream its lines are: pairs of a stream and how many lines in a row are of it.

        The line that tells what was dropped is of stream 0.
        """
        lines = self._kept_lines()
        runs = [(stream, sum(1 for _ in group)) for stream, group in groupby(lines, key=lambda line: line.stream)]
        return "".join(line.text for line in lines), runs

    def _kept_lines(self) -> list[_Line]:
        rest = [block for _, block in sorted(self._unfinished.items()) if block.data]
        lines = list(_lines([*self._head.blocks, *self._tail.blocks, *rest], self._longest_line))
        limit, tail_limit = self._limits
        if sum(line.raw for line in lines) == self.total and sum(line.size for line in lines) <= limit + tail_limit:
            return lines
        head = _fitting(lines, limit)
        tail = _fitting(reversed(lines[len(head) :]), tail_limit)[::-1]
        dropped = self.total - sum(line.raw for line in (*head, *tail))
        return [*head, _Line(0, f"... {dropped} bytes dropped ...\n", 0, 0), *tail]

    def _take(self, stream: int, data: bytes, at: int) -> None:
        earlier = self._unfinished.pop(stream, None)
        pending = earlier.data + data if earlier else data
        whole = pending.rfind(b"\n") + 1
        if whole:
            self._keep(_Block(stream, at, pending[:whole]))
        while len(pending) - whole > self._longest_line:
            cut = _cut(pending, whole, self._longest_line)
            self._keep(_Block(stream, at, pending[whole:cut]))
            whole = cut
        if whole < len(pending):
            self._unfinished[stream] = _Block(stream, at, pending[whole:])

    def _keep(self, block: _Block) -> None:
        head, tail = self._limits
        if self._head.cost < head:
            self._head.append(block)
            return
        self._tail.append(block)
        self._tail.shrink(tail)


def _lines(blocks: Iterable[_Block], longest: int) -> Iterator[_Line]:
    for block in blocks:
        stamp = _stamp(block.at)
        for raw in _split(block.data, longest):
            text = raw.removesuffix(b"\n").decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
            line = f"{stamp} {text}\n"
            yield _Line(block.stream, line, len(line.encode()), len(raw))


def _split(data: bytes, longest: int) -> Iterator[bytes]:
    """Lines with their newlines, long ones cut."""
    for match in re.finditer(rb"[^\n]*\n|[^\n]+", data):
        start, end = match.span()
        while len(data[start:end].removesuffix(b"\n")) > longest:
            cut = _cut(data, start, longest)
            yield data[start:cut]
            start = cut
        yield data[start:end]


def _cut(data: bytes, start: int, longest: int) -> int:
    """Where to cut a line that is too long, if possible not inside a character."""
    end = start + longest
    borders = (i for i in range(end, end - 4, -1) if data[i] & 0xC0 != 0x80)  # noqa: PLR2004 - of UTF-8
    return next(borders, end)


def _fitting(lines: Iterable[_Line], limit: int) -> list[_Line]:
    """The first lines whose sizes add up to no more than the limit."""
    sizes = 0
    kept = []
    for line in lines:
        sizes += line.size
        if sizes > limit:
            break
        kept.append(line)
    return kept


def _stamp(at: int) -> str:
    seconds, nanoseconds = divmod(at, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"

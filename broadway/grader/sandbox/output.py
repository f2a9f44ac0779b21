"""A container's output as text of bounded size: the first and the last lines, each with its time of arrival."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

LONGEST_LINE = 16 * 1024  # bytes; longer lines are split, as the engine's own log drivers do
STAMP = 31  # characters of the timestamp before a line
_SLICE = 64 * 1024  # bytes processed at once, so that a huge chunk is never kept in full

Listener = Callable[[int, bytes, int], None]  # of whole lines: their stream, their bytes and their time


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines of one stream, not yet split, whose end arrived at ``at`` (nanoseconds since the epoch)."""

    stream: int
    at: int
    data: bytes
    cost: int = field(init=False)  # the minimum number of bytes of text; bytes that are not UTF-8 make more

    def __post_init__(self) -> None:
        object.__setattr__(self, "cost", cost_of(self.data))


@dataclass(slots=True)
class _Blocks:
    """A queue of blocks, with their total cost."""

    blocks: deque[_Block] = field(default_factory=deque)
    cost: int = 0

    def append(self, block: _Block) -> None:
        self.blocks.append(block)
        self.cost += block.cost

    def shrink(self, cost: int) -> None:
        """Drop the oldest blocks, as long as the rest has at least ``cost``."""
        while self.blocks and self.cost - self.blocks[0].cost >= cost:
            self.cost -= self.blocks.popleft().cost


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the text, with its size in bytes of UTF-8 and the number of bytes of raw output in it."""

    stream: int
    text: str
    size: int
    raw: int


class OutputLog:
    """Collects the output of one container, in memory of bounded size.

    A program may print millions of lines, so no work is done per line before ``text``: chunks are kept unsplit, a few
    more than will be needed. The result does not depend on how the output was divided into chunks.
    """

    def __init__(
        self,
        *,
        head: int,
        tail: int,
        longest_line: int = LONGEST_LINE,
        is_terminal: bool = False,
        listener: Listener | None = None,
    ) -> None:
        """Keep the first ``head`` and the last ``tail`` bytes of text, as lines of at most ``longest_line`` bytes.

        With ``is_terminal``, a carriage return before a newline is the terminal's and not the program's. ``listener``
        gets all lines in the order of the text, also those that are dropped; it must return at once.
        """
        self.total = 0
        self._listener = listener
        self._is_terminal = is_terminal
        self._return = b""  # a carriage return at the end of the data so far
        self._limits = (head, tail)
        self._longest_line = longest_line
        self._head = _Blocks()
        self._tail = _Blocks()
        self._unfinished: dict[int, _Block] = {}

    def feed(self, stream: int, data: bytes, at: int) -> None:
        """Add data that arrived on a stream (1 is stdout, 2 is stderr) at ``at``, in nanoseconds since the epoch."""
        if self._is_terminal:
            data = self._as_written(data)
        self.total += len(data)
        for start in range(0, len(data), _SLICE):
            self._take(stream, data[start : start + _SLICE], at)

    def text(self) -> str:
        """Return the kept lines; a line between head and tail reports the number of dropped bytes, if there are any."""
        return self.kept()[0]

    def kept(self) -> tuple[str, list[tuple[int, int]]]:
        """Return the text, and the origin of its lines: pairs of a stream and a number of consecutive lines.

        The line that reports dropped bytes belongs to stream 0. The output has ended: lines that still lack a newline
        go to the listener.
        """
        listener, self._listener = self._listener, None
        for _, block in sorted(self._unfinished.items()):
            if listener:
                listener(block.stream, block.data, block.at)
        lines = self._kept_lines()
        runs = [(stream, sum(1 for _ in group)) for stream, group in groupby(lines, key=lambda line: line.stream)]
        return "".join(line.text for line in lines), runs

    def _kept_lines(self) -> list[Line]:
        rest = [block for _, block in sorted(self._unfinished.items()) if block.data]
        lines = list(_lines([*self._head.blocks, *self._tail.blocks, *rest], self._longest_line))
        limit, tail_limit = self._limits
        if sum(line.raw for line in lines) == self.total and sum(line.size for line in lines) <= limit + tail_limit:
            return lines
        head = _fitting(lines, limit)
        tail = _fitting(reversed(lines[len(head) :]), tail_limit)[::-1]
        dropped = self.total - sum(line.raw for line in (*head, *tail))
        return [*head, Line(0, f"... {dropped} bytes dropped ...\n", 0, 0), *tail]

    def _as_written(self, data: bytes) -> bytes:
        """Return data of a terminal as its program wrote it; a last carriage return is kept until more data comes."""
        data = self._return + data
        self._return = data[-1:] if data.endswith(b"\r") else b""
        return data.removesuffix(self._return).replace(b"\r\n", b"\n")

    def _take(self, stream: int, data: bytes, at: int) -> None:
        earlier = self._unfinished.pop(stream, None)
        pending = earlier.data + data if earlier else data
        end = pending.rfind(b"\n") + 1
        if end:
            self._keep(_Block(stream, at, pending[:end]))
        while len(pending) - end > self._longest_line:
            cut = _cut(pending, end, self._longest_line)
            self._keep(_Block(stream, at, pending[end:cut]))
            end = cut
        if end < len(pending):
            self._unfinished[stream] = _Block(stream, at, pending[end:])

    def _keep(self, block: _Block) -> None:
        if self._listener:
            self._listener(block.stream, block.data, block.at)
        head, tail = self._limits
        if self._head.cost < head:
            self._head.append(block)
            return
        self._tail.append(block)
        self._tail.shrink(tail)


def _lines(blocks: Iterable[_Block], longest: int) -> Iterator[Line]:
    for block in blocks:
        yield from lines_of(block.stream, block.data, block.at, longest)


def lines_of(stream: int, data: bytes, at: int, longest: int = LONGEST_LINE) -> Iterator[Line]:
    """Yield the lines of a listener's data, as they are in the text."""
    stamp = _stamp(at)
    for raw in _split(data, longest):
        text = raw.removesuffix(b"\n").decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        line = f"{stamp} {text}\n"
        yield Line(stream, line, len(line.encode()), len(raw))


def cost_of(data: bytes) -> int:
    """Return the minimum number of bytes of text that data makes."""
    return len(data) + STAMP * max(1, data.count(b"\n"))


def line_count(data: bytes, longest: int = LONGEST_LINE) -> int:
    """Return the number of lines that ``lines_of`` yields, in time that does not depend on the number of short ones."""
    start, newlines = 0, data.count(b"\n")
    while len(data) - start > longest:
        newline = data.rfind(b"\n", start, start + longest + 1)
        if newline < 0:
            return sum(1 for _ in _split(data, longest))
        start = newline + 1
    return newlines + (not data.endswith(b"\n"))


def _split(data: bytes, longest: int) -> Iterator[bytes]:
    """Yield lines with their newlines; long lines are split."""
    for match in re.finditer(rb"[^\n]*\n|[^\n]+", data):
        start, end = match.span()
        while len(data[start:end].removesuffix(b"\n")) > longest:
            cut = _cut(data, start, longest)
            yield data[start:cut]
            start = cut
        yield data[start:end]


def _cut(data: bytes, start: int, longest: int) -> int:
    """Return the index at which to split a line that is too long, if possible not inside a character."""
    end = start + longest
    borders = (i for i in range(end, end - 4, -1) if data[i] & 0xC0 != 0x80)  # noqa: PLR2004 - of UTF-8
    return next(borders, end)


def _fitting(lines: Iterable[Line], limit: int) -> list[Line]:
    """Return as many of the first lines as fit into the limit."""
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

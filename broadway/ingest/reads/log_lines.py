"""Logs of jobs by line."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from broadway.domain.result import Streams
from broadway.messages.resources.jobs import LogLine

_STREAMS = {1: "stdout", 2: "stderr"}


_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ")


def log_lines(text: str, streams: Sequence[Streams]) -> list[LogLine]:
    """Return a job's log by line: the stage's index, the time and the stream of each line, and its text.

    ``streams`` are those of each stage. A line has neither stage nor stream if its grader does not report them.
    """
    lines = iter(text.removesuffix("\n").split("\n") if text else [])  # splitlines would split at a program's \r, too
    attributed = [_line(line, index, stream) for index, stream, line in _streams(lines, streams)]
    return attributed + [_line(line, None, 0) for line in lines]


def _streams(lines: Iterator[str], streams: Sequence[Streams]) -> Iterator[tuple[int, int, str]]:
    for index, of_stage in enumerate(streams):
        for stream, count in of_stage:
            for line in islice(lines, count):
                yield index, stream, line


def _line(line: str, stage: int | None, stream: int) -> LogLine:
    at, _, text = line.partition(" ") if _STAMP.match(line) else ("", "", line)
    return LogLine(stage=stage, at=at or None, stream=_STREAMS.get(stream), text=text)

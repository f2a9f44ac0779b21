"""Logs of the original's graders, which cannot leave out the output of a stage with ``logs: false``.

They report one text for all stages, each line with the engine's time. A stage runs after the one before it has ended,
so the time of a line names its stage.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from broadway.domain.result import StageResult

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)Z ")


def without_hidden(text: str, stages: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> str:
    """Return a job's output without the lines of stages with ``logs: false``.

    A line without a time belongs to the stage of the line before it. If the results do not give the start of each
    stage, the whole output is left out.

    Args:
        text: The output of all stages that ran.
        stages: The job's stages.
        results: The grader's results, one for each stage that ran.
    """
    hidden = [stage.get("logs") is False for stage in stages]
    if not any(hidden[: len(results)]):
        return text
    starts = [StageResult.read(entry).started_at for entry in results]
    known = [start for start in starts if start]
    if len(known) < len(starts) or known != sorted(known):
        return ""
    kept, is_hidden = [], True
    for line in text.splitlines(keepends=True):
        if at := _time(line):
            is_hidden = hidden[max(0, bisect_right(known, at) - 1)]
        if not is_hidden:
            kept.append(line)
    return "".join(kept)


def _time(line: str) -> datetime | None:
    """Return the engine's time at the beginning of a line, or None. The engine writes UTC."""
    found = _STAMP.match(line)
    try:
        return datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None
    except ValueError:
        return None

"""Geometry of charts: numbers for inline SVG, whose sizes are attributes, since the policy allows no styles."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from broadway.domain.job import Job
from broadway.domain.result import StageResult
from broadway.domain.status_line import Tone

WIDTH = 1000  # of a bar; the page scales it
_LEAST = 4  # of a part that exists


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a bar: its place and width, its meaning, its name and its seconds."""

    x: int
    width: int
    tone: str
    name: str
    seconds: float


def phase_bars(job: Job, results: Sequence[StageResult], now: datetime) -> list[Bar]:
    """Return the times of a job on one scale: waiting, pulling, each stage, and the rest."""
    begun = job.started_at
    parts = [("queued", ((begun or job.finished_at or now) - job.queued_at).total_seconds(), "waiting")]
    for index, result in enumerate(results, 1):
        usage = result.usage
        if usage is None:
            continue
        for name, seconds in (("pull", usage.pull_seconds), (f"stage {index}", usage.wall_seconds)):
            if seconds:
                parts.append((name, seconds, "neutral" if name == "pull" else "running"))
    if begun and len(parts) == 1:
        parts.append(("run", ((job.finished_at or now) - begun).total_seconds(), "running"))
    return _placed([(name, max(0.0, seconds), tone) for name, seconds, tone in parts])


def _placed(parts: Sequence[tuple[str, float, str]]) -> list[Bar]:
    total = sum(seconds for _, seconds, _ in parts) or 1.0
    bars, x = [], 0
    for name, seconds, tone in parts:
        width = min(max(_LEAST, round(WIDTH * seconds / total)), max(_LEAST, WIDTH - x))
        bars.append(Bar(x, width, tone, name, seconds))
        x += width
    return bars


def count_bars(counts: Sequence[tuple[str, Tone, int]], total: int) -> list[Bar]:
    """Return the parts of a run by status."""
    bars, x = [], 0
    for word, tone, number in counts:
        width = round(WIDTH * number / max(1, total))
        bars.append(Bar(x, max(_LEAST, width), tone.value, word, float(number)))
        x += width
    return bars


def columns(counts: Sequence[int], height: int = 40) -> list[tuple[int, int, int, int]]:
    """Return the columns of a histogram: place, upper edge, height and count; each is 10 wide."""
    most = max(counts, default=0) or 1
    found = []
    for index, count in enumerate(counts):
        tall = max(1 if count else 0, round(height * count / most))
        found.append((index * 10, height - tall, tall, count))
    return found

"""The time until a waiting job starts: an estimate from the jobs that run and the durations of recent ones. Pure."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

FEWEST = 3  # durations, below which there is no estimate
MOST_STEPS = 5_000  # jobs ahead that are followed one by one
SIGMAS = 2.0  # the error covers about 19 of 20 starts while nothing changes


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of a course: the seconds for which its running jobs have run, and the durations of recent jobs."""

    running: Sequence[float] = ()
    durations: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """The estimated seconds until a start, and their error: the start is likely at most that much earlier or later."""

    seconds: float
    error: float


def wait_of(ahead: int, pace: Pace) -> Wait | None:
    """Return the wait of a job that starts after ``ahead`` others of its course; None if it is unknown.

    Each running job stands for a slot that the course keeps. Each slot is taken over, when its job ends, by the next
    waiting job, which takes the mean duration. Without running jobs there is no pace: graders may be missing.
    """
    durations, slots = [each for each in pace.durations if each >= 0], len(pace.running)
    if len(durations) < FEWEST or not slots:
        return None
    mean, deviation = fmean(durations), pstdev(durations)
    free = [_rest(elapsed, durations) for elapsed in pace.running]
    heapq.heapify(free)
    steps = min(ahead, MOST_STEPS)
    for _ in range(steps):
        heapq.heapreplace(free, free[0] + mean)
    rounds = (ahead + 1) / slots  # durations one after another on a slot
    seconds = free[0] + (ahead - steps) * mean / slots
    own = 1 + rounds / slots  # of the first job on the slot, which is cut, and of the sum of the others
    variance = deviation**2 * (own + rounds**2 / len(durations))
    return Wait(seconds, SIGMAS * math.sqrt(variance))


def place_in_words(ahead: int, wait: Wait | None) -> str:
    """Return a place in the queue as a person says it, such as ``3rd in the queue, about 40 s``."""
    place = "next in the queue" if ahead == 0 else f"{_ordinal(ahead + 1)} in the queue"
    if wait is None:
        return f"{place}; how long it takes is not known yet"
    return f"{place}, {wait_in_words(wait)}"


def wait_in_words(wait: Wait) -> str:
    """Return a wait with its error, such as ``about 40 s (± 10 s)``."""
    return f"about {_duration(wait.seconds)} (± {_duration(wait.error)})"


def _ordinal(number: int) -> str:
    teens = 11 <= number % 100 <= 13  # noqa: PLR2004 - 11th, 12th, 13th
    return f"{number:,}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _duration(seconds: float) -> str:
    """Return a duration in one unit, rounded as an estimate deserves."""
    if seconds < 100:  # noqa: PLR2004 - in seconds
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004 - 90 min


def _rest(elapsed: float, durations: Sequence[float]) -> float:
    """Return the mean rest of a running job: of recent jobs that took longer; of none, it ends at any moment."""
    longer = [each - elapsed for each in durations if each > elapsed]
    return fmean(longer) if longer else 0.0

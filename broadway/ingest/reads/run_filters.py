"""Filters, order and pages of a run's rows, as the address of a page gives them. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from broadway.domain.job import JobState, Phase
from broadway.domain.pages import NumberedPage, numbered
from broadway.domain.report import shown
from broadway.domain.status_line import Tone
from broadway.ingest.reads.run_tables import RunRow

BARS = 20  # of a histogram
MOST_TESTS = 5  # that fail most
MOST_CAUSES = 10

Sort = Literal["student", "outcome", "score", "seconds", "waited", "grader"]

_KEYS: dict[str, Callable[[RunRow], Any]] = {
    "student": lambda row: (row.student.casefold(), row.index),
    "outcome": lambda row: (row.status.word, row.student.casefold()),
    "score": lambda row: (row.score is None, row.score or 0, row.student.casefold()),
    "seconds": lambda row: (row.seconds is None, -(row.seconds or 0)),
    "waited": lambda row: (row.waited is None, -(row.waited or 0)),
    "grader": lambda row: (row.grader == "", row.grader, row.student.casefold()),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """The rows that a page asks for. Empty values admit all rows."""

    find: str = ""
    outcome: str = ""
    score: Decimal | None = None  # at least
    grader: str = ""
    test: str = ""  # that has failed
    cause: str = ""
    sort: Sort = "student"
    page: int = 1

    def admits(self, row: RunRow) -> bool:
        """Return whether a row is one that the page asks for."""
        return (
            (not self.find or self.find.casefold() in row.student.casefold())
            and self.outcome in ("", row.status.word)
            and (self.score is None or (row.score is not None and row.score >= self.score))
            and self.grader in ("", row.grader)
            and (not self.test or self.test in row.failed)
            and self.cause in ("", row.cause)
        )


def rows_of(rows: Sequence[RunRow], wanted: Filter) -> NumberedPage[RunRow]:
    """Return the page of rows that a filter asks for."""
    return numbered(sorted((row for row in rows if wanted.admits(row)), key=_KEYS[wanted.sort]), wanted.page)


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of a run's students: by status, with each status' meaning, and in which order they are shown."""

    total: int
    over: int
    counts: Sequence[tuple[str, Tone, int]]
    histogram: Sequence[int]
    limit: Decimal | None
    median: Decimal | None
    failing: Sequence[tuple[str, int]]
    causes: Sequence[tuple[str, str, int]]
    graders: Sequence[str]


_ORDER = (Tone.GOOD, Tone.STUDENT, Tone.OURS, Tone.NEUTRAL, Tone.RUNNING, Tone.WAITING)


def summary_of(rows: Sequence[RunRow]) -> Summary:
    """Return the summary of a run's rows; only students' jobs count."""
    own = [row for row in rows if row.phase == Phase.STUDENTS.value]
    words = Counter((row.status.word, row.status.tone) for row in own)
    counts = sorted(
        ((word, tone, number) for (word, tone), number in words.items()), key=lambda each: (_ORDER.index(each[1]), each)
    )
    scores = sorted(row.score for row in own if row.score is not None)
    limits = [row.max for row in own if row.max is not None]
    failing = Counter(test for row in own for test in row.failed).most_common(MOST_TESTS)
    return Summary(
        total=len(own),
        over=sum(row.state is JobState.FINISHED for row in own),
        counts=counts,
        histogram=_histogram(scores, max(limits, default=None)),
        limit=max(limits, default=None),
        median=scores[len(scores) // 2] if scores else None,
        failing=failing,
        causes=causes_of(own),
        graders=sorted({row.grader for row in own if row.grader}),
    )


def causes_of(rows: Sequence[RunRow]) -> list[tuple[str, str, int]]:
    """Return the causes of jobs that ended without a grade: the status, the reason and the number, most first."""
    ended = [row for row in rows if row.state is JobState.FINISHED and row.status.tone in (Tone.STUDENT, Tone.OURS)]
    found = Counter((row.status.word, row.cause) for row in ended if row.cause)
    return [(word, cause, number) for (word, cause), number in found.most_common(MOST_CAUSES)]


def _histogram(scores: Sequence[Decimal], limit: Decimal | None) -> list[int]:
    """Return the number of scores in each of equal intervals from 0 to the maximum, which the last one includes."""
    if not scores:
        return []
    top = max(limit or Decimal(0), scores[-1])
    if top <= 0:
        return [len(scores)]
    bars = [0] * (min(BARS, int(top)) or 1)
    for score in scores:
        bars[min(len(bars) - 1, max(0, int(score / top * len(bars))))] += 1
    return bars


def words_of_filter(wanted: Filter) -> dict[str, str]:
    """Return a filter as the parameters of an address; values that are the default are left out."""
    given = {
        "find": wanted.find,
        "outcome": wanted.outcome,
        "score": "" if wanted.score is None else shown(wanted.score),
        "grader": wanted.grader,
        "test": wanted.test,
        "cause": wanted.cause,
        "sort": "" if wanted.sort == "student" else wanted.sort,
        "page": "" if wanted.page == 1 else str(wanted.page),
    }
    return {name: value for name, value in given.items() if value}

"""The status line of a job: one sentence with the whole truth, for pages and commands alike. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from broadway.domain.job import Job, JobState, Outcome
from broadway.domain.marks import Marks
from broadway.domain.report import points_of, shown
from broadway.domain.result import Scores, StageResult
from broadway.domain.visibility import Role
from broadway.domain.waiting_time import Wait, wait_in_words


class Tone(StrEnum):
    """The meaning of a status, which has an icon and a color on pages."""

    WAITING = "waiting"
    RUNNING = "running"
    GOOD = "good"
    STUDENT = "student"  # a problem of the submission
    OURS = "ours"  # a problem of the system
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class JobFacts:
    """The facts of a job that its status follows from.

    ``ahead`` is the number of jobs that start before it, ``wait`` the estimate of its wait, or None.
    """

    state: JobState
    outcome: Outcome | None = None
    has_report: bool = False
    gradable: bool = True
    attempts: int = 0
    ahead: int | None = None
    wait: Wait | None = None
    reason: str = ""
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class StatusLine:
    """A status: its meaning, its word, and a sentence that explains it; the sentence may be empty."""

    tone: Tone
    word: str
    sentence: str = ""


_WORDS: Mapping[Outcome, tuple[Tone, str]] = {
    Outcome.SUCCEEDED: (Tone.GOOD, "graded"),
    Outcome.FAILED: (Tone.STUDENT, "not gradable"),
    Outcome.TIMED_OUT: (Tone.STUDENT, "timed out"),
    Outcome.OUT_OF_MEMORY: (Tone.STUDENT, "out of memory"),
    Outcome.OUTPUT_LIMIT: (Tone.STUDENT, "too much output"),
    Outcome.INFRASTRUCTURE_ERROR: (Tone.OURS, "error on our side"),
    Outcome.CANCELLED: (Tone.NEUTRAL, "cancelled"),
    Outcome.SUPERSEDED: (Tone.NEUTRAL, "superseded"),
}
WORDS = tuple(word for _, word in _WORDS.values())
_FOR_STUDENTS: Mapping[Outcome, str] = {
    Outcome.FAILED: "The submission did not get as far as its tests. This used one attempt.",
    Outcome.TIMED_OUT: "The program ran longer than the time limit, and was stopped. This used one attempt.",
    Outcome.OUT_OF_MEMORY: "The program was stopped: it used more memory than allowed. This used one attempt.",
    Outcome.OUTPUT_LIMIT: "The program was stopped: it wrote more output than allowed. This used one attempt.",
    Outcome.INFRASTRUCTURE_ERROR: "Something failed on our side. This used no attempt, and can be run again.",
    Outcome.CANCELLED: "The course staff cancelled this. It uses no attempt.",
    Outcome.SUPERSEDED: "A later submission took the place of this one. It uses no attempt.",
}


def facts_of(job: Job, *, ahead: int | None = None, wait: Wait | None = None, waits_for: str = "") -> JobFacts:
    """Return the facts of a job, with or without its results."""
    results = [StageResult.read(entry) for entry in job.results or []]
    noted = next((result.note for result in reversed(results) if result.note), None)
    ended = next((each for each in reversed(job.attempts) if each.execution_id == job.execution_id), None)
    marks = ended.marks if ended and ended.marks else Marks()  # a job of a list has these, and no results
    is_noted = noted is not None and noted.source is not None
    has_report = is_noted or marks.source is not None or any(result.scores for result in results)
    return JobFacts(
        job.state,
        job.outcome,
        has_report=has_report,
        gradable=marks.gradable if noted is None else noted.gradable,
        attempts=job.starts,
        ahead=ahead,
        wait=wait,
        reason=job.reason,
        waits_for=waits_for,
    )


def status_of(facts: JobFacts, role: Role) -> StatusLine:
    """Return the status of a job, for a role. Reasons of the system are for staff."""
    if facts.state is JobState.FINISHED and facts.outcome is not None:
        return _of_outcome(facts, facts.outcome, role)
    if facts.state is JobState.RUNNING:
        return StatusLine(Tone.RUNNING, "running", _again(facts))
    return StatusLine(Tone.WAITING, "queued", _waiting(facts, role))


def _of_outcome(facts: JobFacts, outcome: Outcome, role: Role) -> StatusLine:
    is_unwanted = outcome in (Outcome.CANCELLED, Outcome.SUPERSEDED, Outcome.INFRASTRUCTURE_ERROR)
    if facts.has_report and not is_unwanted:
        if not facts.gradable:
            sentence = "The autograder could not grade this submission. It uses no attempt."
            return StatusLine(Tone.STUDENT, "not gradable", sentence)
        return StatusLine(Tone.GOOD, "graded")
    tone, word = _WORDS[outcome]
    own = facts.reason if role is Role.STAFF else ""
    return StatusLine(tone, word, own or _FOR_STUDENTS.get(outcome, ""))


def _waiting(facts: JobFacts, role: Role) -> str:
    if facts.waits_for and role is Role.STAFF:
        return f"It waits for {facts.waits_for}."
    if facts.attempts:
        return "Something failed on our side. It is tried again by itself and uses no attempt."
    if facts.ahead is None:
        return ""
    place = "Next in the queue" if facts.ahead == 0 else f"{ordinal(facts.ahead + 1)} in the queue"
    return f"{place}, {wait_in_words(facts.wait)}." if facts.wait else f"{place}."


def _again(facts: JobFacts) -> str:
    return f"Attempt {facts.attempts}: an earlier one failed on our side." if facts.attempts > 1 else ""


def ordinal(number: int) -> str:
    """Return a number with its ending, such as ``3rd``."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def score_of(results: Sequence[Mapping[str, Any]]) -> tuple[Decimal | None, Decimal | None]:
    """Return the score and the maximum in a job's results, for readers who need no report."""
    scores = next((found for entry in reversed(results) if (found := Scores.read(entry.get("scores")))), None)
    if scores is None or scores.score is None:
        return None, None
    return _points(scores.score), None if scores.max_score is None else _points(scores.max_score)


def _points(value: float) -> Decimal | None:
    try:
        return points_of(Decimal(str(value)))
    except ValueError:  # beyond the bounds of points
        return None


def of_points(score: Decimal | None, limit: Decimal | None) -> str:
    """Return points in words, such as ``17 of 20``; empty without a score."""
    if score is None:
        return ""
    return shown(score) if limit is None else f"{shown(score)} of {shown(limit)}"

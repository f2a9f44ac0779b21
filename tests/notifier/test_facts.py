"""Events and their facts: an event counts, waits or is dropped by the state of the store."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from broadway.domain.callback import CallbackEvent
from broadway.domain.job import Job, JobClass, Outcome, Phase
from broadway.domain.run import Run, RunState
from broadway.domain.settlement import Settlement
from broadway.notifier.facts import Found, Missing

NOW = datetime(2026, 3, 1, tzinfo=UTC)
JOB = Job("j", "r", "cs1", "mp1", Phase.STUDENTS, 0, JobClass.INTERACTIVE, "default", NOW)
RUN = Run("r", "cs1", "mp1", RunState.STUDENTS, NOW, {}, [], trigger={"student": "alice"})
ENDED = Settlement("j", "r", "cs1", 1, 1, Outcome.SUCCEEDED, success=True, finished_at=NOW)
OF_JOB = CallbackEvent.job_finished("cs1", "j", 1, run_id="r", at=NOW)
OF_RUN = CallbackEvent.run_finished("cs1", "r", 2, at=NOW)


def found(*, job: Job | None = JOB, settlement: Settlement | None = None, run: Any = RUN, last: int = 0) -> Found:
    jobs = {job.id: job} if job else {}
    return Found(jobs, {settlement.key: settlement} if settlement else {}, {"r": (run, last)} if run else {})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (found(), Missing.NOT_YET),
        (found(job=replace(JOB, generation=2)), Missing.NEVER),
        (found(job=None), Missing.NEVER),
        (found(settlement=ENDED, run=SimpleNamespace(regrade="g1")), Missing.NEVER),
        (found(run=SimpleNamespace(regrade="g1")), Missing.NEVER),
    ],
    ids=["open", "run again", "unknown", "ended of a regrade", "open of a regrade"],
)
def test_a_job_without_an_outcome_that_counts_has_no_data(facts: Found, expected: Missing) -> None:
    assert facts.data(OF_JOB) is expected


@pytest.mark.parametrize("generation", [1, 2])
def test_a_jobs_outcome_counts_though_the_job_runs_again(generation: int) -> None:
    data = found(job=replace(JOB, generation=generation), settlement=ENDED).data(OF_JOB)
    assert not isinstance(data, Missing)
    assert (data["outcome"], data["generation"], data["student"]) == ("succeeded", 1, "alice")


@pytest.mark.parametrize(
    ("run", "last", "expected"),
    [
        (None, 0, Missing.NOT_YET),
        (replace(RUN, round=2), 1, Missing.NOT_YET),
        (replace(RUN, round=3), 1, Missing.NEVER),
        (SimpleNamespace(regrade="g1", round=2), 2, Missing.NEVER),
    ],
    ids=["unknown", "open", "next round", "regrade"],
)
def test_a_run_that_has_not_ended_has_no_data(run: Any, last: int, expected: Missing) -> None:
    assert found(run=run, last=last).data(OF_RUN) is expected


@pytest.mark.parametrize("last", [2, 3])
def test_a_run_counts_once_its_round_has_ended(last: int) -> None:
    data = found(run=replace(RUN, round=3), last=last).data(OF_RUN)
    assert not isinstance(data, Missing)
    assert (data["run"], data["round"]) == ("r", 2)

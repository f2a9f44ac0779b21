"""The most recent outcomes, kept for jobs that are delivered again."""

import pytest
from outcomes import job, outcome

from broadway.grader.worker.recent_outcomes import RecentOutcomes


def test_an_outcome_belongs_to_one_start_of_one_job() -> None:
    recent = RecentOutcomes()
    recent.add(outcome("j1"))
    assert recent.get(job("j1")) == outcome("j1")
    for other in (job("j2"), job("j1", generation=2), job("j1", attempt=2)):
        assert recent.get(other) is None


def test_the_oldest_outcomes_are_dropped_if_there_are_too_many() -> None:
    recent = RecentOutcomes(max_outcomes=2)
    for job_id in ("j1", "j2", "j1", "j3"):  # an outcome that is added again counts once
        recent.add(outcome(job_id))
    assert [job_id for job_id in ("j1", "j2", "j3") if recent.get(job(job_id))] == ["j2", "j3"]


@pytest.mark.parametrize("part", ["stdout", "stderr", "document"])
def test_the_oldest_outcomes_are_dropped_if_they_are_too_long(part: str) -> None:
    recent = RecentOutcomes(max_characters=1000)
    for job_id in ("j1", "j2", "j3"):
        recent.add(outcome(job_id, **{part: "x" * 400}))
    assert [job_id for job_id in ("j1", "j2", "j3") if recent.get(job(job_id))] == ["j2", "j3"]


def test_an_outcome_that_is_added_again_uses_its_space_once() -> None:
    recent = RecentOutcomes(max_characters=1000)
    for job_id in ("j1", "j1", "j1", "j2"):
        recent.add(outcome(job_id, stdout="x" * 500))
    assert recent.get(job("j1"))
    assert recent.get(job("j2"))


def test_an_outcome_that_is_too_long_by_itself_is_not_kept_and_drops_no_other() -> None:
    recent = RecentOutcomes(max_characters=1000)
    recent.add(outcome("j1"))
    recent.add(outcome("j2", stdout="x" * 1001))
    assert recent.get(job("j1")) == outcome("j1")
    assert recent.get(job("j2")) is None

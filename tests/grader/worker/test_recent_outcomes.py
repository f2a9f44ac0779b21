"""The last outcomes, kept for jobs that come back."""

import pytest
from outcomes import job, outcome

from broadway.grader.worker.recent_outcomes import RecentOutcomes


def test_an_outcome_is_of_one_start_of_one_job() -> None:
    reported = RecentOutcomes()
    reported.add(outcome("j1"))
    assert reported.get(job("j1")) == outcome("j1")
    for other in (job("j2"), job("j1", generation=2), job("j1", attempt=2)):
        assert reported.get(other) is None


def test_the_oldest_go_when_there_are_too_many() -> None:
    reported = RecentOutcomes(max_outcomes=2)
    for job_id in ("j1", "j2", "j1", "j3"):  # what is reported once more is no second one
        reported.add(outcome(job_id))
    assert [job_id for job_id in ("j1", "j2", "j3") if reported.get(job(job_id))] == ["j2", "j3"]


@pytest.mark.parametrize("part", ["stdout", "stderr", "document"])
def test_the_oldest_go_when_they_are_too_long(part: str) -> None:
    reported = RecentOutcomes(max_characters=1000)
    for job_id in ("j1", "j2", "j3"):
        reported.add(outcome(job_id, **{part: "x" * 400}))
    assert [job_id for job_id in ("j1", "j2", "j3") if reported.get(job(job_id))] == ["j2", "j3"]


def test_what_is_reported_once_more_takes_its_room_once() -> None:
    reported = RecentOutcomes(max_characters=1000)
    for job_id in ("j1", "j1", "j1", "j2"):
        reported.add(outcome(job_id, stdout="x" * 500))
    assert reported.get(job("j1"))
    assert reported.get(job("j2"))


def test_one_that_is_too_long_by_itself_is_not_kept_and_drops_no_other() -> None:
    reported = RecentOutcomes(max_characters=1000)
    reported.add(outcome("j1"))
    reported.add(outcome("j2", stdout="x" * 1001))
    assert reported.get(job("j1")) == outcome("j1")
    assert reported.get(job("j2")) is None

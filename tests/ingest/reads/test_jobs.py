"""Logs of jobs that were cancelled."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broadway.domain.job import Attempt, Execution, Job, JobClass, Outcome, Phase, RetryPolicy
from broadway.domain.result import JobLog
from broadway.ingest.reads.jobs import LOG_WITHIN, JobReads

NOW = datetime.now(UTC)
LEASE = timedelta(seconds=30)
KEPT = JobLog("j1", "e1", "so far\n", "")
QUEUED = Job(
    id="j1",
    run_id="r1",
    course="cs1",
    assignment="mp1",
    phase=Phase.STUDENTS,
    index=0,
    job_class=JobClass.BULK,
    pool="default",
    queued_at=NOW,
)
RUNNING = QUEUED.start(Attempt("e1", "g1", NOW), lease=LEASE, policy=RetryPolicy(), now=NOW)
FAILED = RUNNING.finish(Execution("e1", "g1", NOW, NOW, Outcome.FAILED), policy=RetryPolicy(), now=NOW)
RERUN = FAILED.rerun(1, 2, NOW)


@dataclass
class Logs:
    """Stored logs by execution."""

    kept: dict[str, JobLog] = field(default_factory=dict)

    async def get(self, _job_id: str, execution_id: str | None, **_: Any) -> JobLog | None:
        return self.kept.get(execution_id or next(iter(self.kept), ""))


def reads(*kept: JobLog) -> JobReads:
    nothing: Any = None
    return JobReads(nothing, nothing, Logs({each.execution_id: each for each in kept}))


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.SUPERSEDED])
async def test_the_log_of_a_job_that_was_cancelled_while_it_ran_is_awaited_until_it_is_there(outcome: Outcome) -> None:
    now = datetime.now(UTC)
    ended = RUNNING.cancel("not wanted", now, outcome)

    assert await reads().awaits_log(ended)
    assert not await reads(KEPT).awaits_log(ended)
    assert await reads(KEPT).log(ended) == JobLog("j1", "e1", "so far\n", "", [()])
    assert not await reads().awaits_log(RUNNING.cancel("not wanted", now - LOG_WITHIN, outcome)), "too long ago"


@pytest.mark.parametrize(
    ("job", "is_cancelled"),
    [(RUNNING, False), (FAILED, False), (QUEUED, True), (RERUN, True)],
    ids=["running", "failed", "never started", "queued again"],
)
async def test_no_other_log_is_awaited(job: Job, *, is_cancelled: bool) -> None:
    job = job.cancel("not wanted", datetime.now(UTC)) if is_cancelled else job

    assert not await reads().awaits_log(job)


async def test_a_job_that_was_cancelled_before_it_ran_again_has_no_log_of_an_earlier_attempt() -> None:
    assert await reads(KEPT).log(RERUN.cancel("not wanted", NOW)) is None
    assert await reads(KEPT).log_of_attempt(RERUN.cancel("not wanted", NOW), "e1") == KEPT


async def test_a_job_that_was_cancelled_before_its_start_was_reported_has_its_log() -> None:
    found = await reads(KEPT).log(QUEUED.cancel("not wanted", NOW))
    assert found is not None
    assert found.stdout == KEPT.stdout

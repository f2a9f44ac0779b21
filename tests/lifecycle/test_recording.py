"""Logs of outcomes, as they are stored."""

from datetime import UTC, datetime
from secrets import token_hex
from types import SimpleNamespace
from typing import Any

from broadway.domain.bounds import MAX_LOG
from broadway.domain.job import Outcome, RetryPolicy
from broadway.domain.result import JobLog
from broadway.lifecycle.recording import Recorder
from broadway.lifecycle.reports import without_reports
from broadway.messages.events import JobFinished


class Kept:
    """A store that keeps logs, with outcomes or apart from them, and knows no job."""

    def __init__(self) -> None:
        self.logs: list[JobLog] = []

    async def put(self, logs: list[JobLog]) -> None:
        self.logs += logs

    async def move(self, _: Any, *, logs: dict[str, JobLog]) -> dict[str, Any]:
        self.logs += logs.values()
        return {}

    async def remove(self, *_: Any) -> None:
        """Nothing is stored apart."""

    async def count_starts(self, _: Any) -> None:
        pass


def finished(stdout: str, **more: Any) -> JobFinished:
    now = datetime.now(UTC)
    return JobFinished(
        course="cs1",
        run_id=token_hex(12),
        job_id=token_hex(12),
        generation=1,
        execution_id=token_hex(12),
        grader_id="g1",
        started_at=now,
        finished_at=now,
        outcome=Outcome.SUCCEEDED,
        stdout=stdout,
        **more,
    )


async def kept_of(event: JobFinished) -> JobLog:
    kept = Kept()
    everything: Any = kept
    recorder = Recorder(everything, everything, everything, SimpleNamespace(), RetryPolicy(), None, everything)  # type: ignore[arg-type]
    await recorder.record([event])
    return kept.logs[0]


async def test_a_log_that_is_cut_says_so() -> None:
    log = await kept_of(finished("x" * MAX_LOG + "lost"))

    assert log.stdout == "x" * MAX_LOG + "\n[broadway] cut here: 4 more characters were not kept\n"
    assert (await kept_of(finished("x" * MAX_LOG))).stdout == "x" * MAX_LOG


async def test_a_log_keeps_the_streams_of_its_stages() -> None:
    log = await kept_of(finished("a\nb\n", results=[{"success": True}, {"data": {}, "streams": [[1, 1], [2, 1]]}]))

    assert log.streams == [(), ((1, 1), (2, 1))]


async def test_the_stages_of_a_cancelled_job_bring_a_log_and_no_report() -> None:
    entry = {"success": True, "data": {}, "streams": [[1, 1]], "report": {"report": {"source": "gradescope"}}}
    event = finished("so far\n", results=[entry]).model_copy(update={"outcome": Outcome.CANCELLED})

    (slim,), reports = without_reports([event])
    assert isinstance(slim, JobFinished)
    assert (reports, "report" in slim.results[0]) == ([], False)
    log = await kept_of(event)
    assert (log.stdout, log.streams) == ("so far\n", [((1, 1),)])

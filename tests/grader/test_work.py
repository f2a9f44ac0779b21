"""The events that a worker reports, and the jobs that it does not run again."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_containers import FakeContainers
from harness import small_disk_at, stage, until

from broadway.domain.grader import GraderMode
from broadway.domain.job import Outcome, Phase
from broadway.grader.grading.directories import Directories
from broadway.grader.worker.availability import Availability
from broadway.grader.worker.reports import Reports
from broadway.grader.worker.runner import Runner
from broadway.grader.worker.self_check import SelfCheck
from broadway.grader.worker.spool import Spool
from broadway.grader.worker.worker import FAST, Worker
from broadway.messages.events import CancelJob, Event, GraderOrder, JobDispatched, JobFinished, JobReleased, JobStarted
from broadway.messages.topology import Exchange
from broadway.ports import GiveBack, PublishError
from broadway.runtime.cancellation import end
from broadway.runtime.health import Health

ROOM = 64 * 1024  # bytes
LONG = "a line of output\n" * 16 * 1024


@dataclass
class RecordingBroker:
    """A broker that accepts every event."""

    events: list[Event] = field(default_factory=list)

    async def publish(self, _exchange: Exchange, _key: str, event: Event) -> None:
        self.events.append(event)


class AbsentBroker(RecordingBroker):
    """A broker that takes no event."""

    async def publish(self, _exchange: Exchange, _key: str, event: Event) -> None:
        raise PublishError(f"{event.type} refused by this test", unknown=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is soon full."""
    with small_disk_at(tmp_path / "disk", size=ROOM, inodes=100) as disk:
        yield disk


def worker(
    containers: FakeContainers,
    directory: Path,
    spool: Spool[JobFinished],
    publisher: RecordingBroker,
    *,
    short: float = float("inf"),
) -> Worker:
    runner = Runner("g1", "life", containers, Directories(directory / "jobs"))
    self_check = SelfCheck(Health({}), runner.try_out, limit=5, pause=60)
    availability = Availability(self_check, 1, GraderOrder(grader_id="g1", revision=0))
    return Worker(runner, availability, Reports(publisher), spool, short=short)


def dispatched(*command: str, job: str = "j1", attempt: int = 1, redelivered: bool = False) -> JobDispatched:
    return JobDispatched(
        course="cs1",
        run_id="r1",
        job_id=job,
        generation=1,
        assignment="mp1",
        phase=Phase.STUDENTS,
        attempt=attempt,
        stages=[stage(*command)],
        redelivered=redelivered,
    )


async def test_an_outcome_that_does_not_fit_on_the_disk_is_reported(tmp_path: Path, small_disk: Path) -> None:
    broker, containers = RecordingBroker(), FakeContainers()
    spool = Spool(small_disk / "spool", JobFinished)

    await worker(containers, tmp_path, spool, broker).work(dispatched("print", LONG))

    (finished,) = broker.events
    assert isinstance(finished, JobFinished)
    assert finished.outcome is Outcome.SUCCEEDED
    assert LONG.strip() in finished.stdout
    assert [path.stat().st_size for path in (small_disk / "spool").iterdir()] == [0], "no draft takes the room"


async def test_a_short_job_is_reported_in_one_event(tmp_path: Path) -> None:
    broker = RecordingBroker()
    await worker(FakeContainers(), tmp_path, Spool(tmp_path / "spool", JobFinished), broker).work(dispatched("exit"))
    assert [event.type for event in broker.events] == [JobFinished.type]


async def test_the_start_of_a_job_that_is_not_short_is_published_while_it_runs(tmp_path: Path) -> None:
    broker = RecordingBroker()
    subject = worker(FakeContainers(), tmp_path, Spool(tmp_path / "spool", JobFinished), broker, short=0)

    working = asyncio.create_task(subject.work(dispatched("hang")))
    await until(lambda: broker.events)
    await end(working)

    started, released = broker.events
    assert isinstance(started, JobStarted)
    assert isinstance(released, JobReleased)
    assert started.execution_id == released.execution_id


async def test_a_start_that_is_not_published_is_not_released(tmp_path: Path) -> None:
    broker, containers = RecordingBroker(), FakeContainers()
    subject = worker(containers, tmp_path, Spool(tmp_path / "spool", JobFinished), broker)

    working = asyncio.create_task(subject.work(dispatched("hang")))
    await until(lambda: containers.started)
    await end(working)

    assert broker.events == []


async def test_a_grader_that_knows_no_api_runs_no_job_without_its_files_and_says_so_of_artifacts(
    tmp_path: Path,
) -> None:
    broker, containers = RecordingBroker(), FakeContainers()
    subject = worker(containers, tmp_path, Spool(tmp_path / "spool", JobFinished), broker)
    submitted = stage("read", "submission/main.c", env={"BROADWAY_SUBMISSION": "s1"})
    keeping = stage("write", "plot.png", "1", artifacts=["*.png"])

    await subject.work(dispatched("exit").model_copy(update={"stages": [submitted]}))
    await subject.work(dispatched("exit", job="j2").model_copy(update={"stages": [keeping]}))

    refused, kept = broker.events
    assert isinstance(refused, JobFinished)
    assert isinstance(kept, JobFinished)
    assert (refused.outcome, refused.retryable) == (Outcome.INFRASTRUCTURE_ERROR, True)
    assert refused.reason == "create: the submission's files: this grader knows no API"
    assert (kept.outcome, kept.stderr) == (Outcome.SUCCEEDED, "artifacts: not stored: this grader knows no API\n")


@pytest.mark.parametrize("doubt", [{"attempt": 2}, {"redelivered": True}], ids=["attempt", "redelivered"])
async def test_the_start_of_a_job_that_may_have_started_before_is_published_first(
    tmp_path: Path, doubt: dict[str, Any]
) -> None:
    broker, containers = RecordingBroker(), FakeContainers()
    subject = worker(containers, tmp_path, Spool(tmp_path / "spool", JobFinished), broker)

    await subject.work(dispatched("exit", **doubt))

    started, finished = broker.events
    assert isinstance(started, JobStarted)
    assert isinstance(finished, JobFinished)
    assert started.execution_id == finished.execution_id
    assert started.redelivered == finished.redelivered == doubt.get("redelivered", False)


async def test_an_outcome_is_on_disk_though_its_start_cannot_be_published(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", JobFinished)
    subject = worker(FakeContainers(), tmp_path, spool, AbsentBroker(), short=0)

    working = asyncio.create_task(subject.work(dispatched("sleep", "0.1")))
    await until(lambda: spool.get(dispatched("sleep", "0.1")))
    await end(working)


async def test_jobs_may_come_early_after_some_short_ones_and_until_a_long_one(tmp_path: Path) -> None:
    subject = worker(FakeContainers(), tmp_path, Spool(tmp_path / "spool", JobFinished), RecordingBroker())
    early = []
    for number in range(FAST):
        early.append(subject.is_fast)
        await subject.work(dispatched("exit", job=f"j{number}"))
    assert early == [False] * FAST
    assert subject.is_fast

    subject.short = 0
    await subject.work(dispatched("exit", job="long"))
    assert not subject.is_fast


async def test_a_job_that_came_early_does_not_wait_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadway.grader.worker.worker.PATIENCE", 0.01)
    broker, containers = RecordingBroker(), FakeContainers()
    subject = worker(containers, tmp_path, Spool(tmp_path / "spool", JobFinished), broker)
    working = asyncio.create_task(subject.work(dispatched("hang")))
    await until(lambda: containers.started)

    with pytest.raises(GiveBack, match="early"):
        await subject.work_soon(dispatched("exit", job="j2"))

    await end(working)
    await subject.work_soon(dispatched("exit", job="j2"))
    assert [event.job_id for event in broker.events if isinstance(event, JobFinished)] == ["j2"]


async def test_an_outcome_spooled_by_an_earlier_process_is_reported_and_its_job_not_run_again(tmp_path: Path) -> None:
    broker, containers = RecordingBroker(), FakeContainers()
    spool = Spool(tmp_path / "spool", JobFinished)
    await worker(containers, tmp_path, spool, broker).work(dispatched("exit", "0"))
    (finished,) = (event for event in broker.events if isinstance(event, JobFinished))
    await spool.put(finished)

    later = RecordingBroker()
    reborn = worker(containers, tmp_path, spool, later)
    await reborn.report_spooled()
    await reborn.work(dispatched("exit", "0"))

    assert later.events == [finished, finished], "told again, since its message has come again"
    assert len(containers.started) == 1


async def test_an_error_in_the_grader_ends_the_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise OverflowError("of this test")

    monkeypatch.setattr("broadway.grader.grading.grade.judge", break_down)
    broker, containers = RecordingBroker(), FakeContainers()
    await worker(containers, tmp_path, Spool(tmp_path / "spool", JobFinished), broker).work(dispatched("exit", "0"))

    finished = broker.events[-1]
    assert isinstance(finished, JobFinished)
    assert (finished.outcome, finished.retryable) == (Outcome.INFRASTRUCTURE_ERROR, True)
    assert finished.reason == "wait: the grader failed: OverflowError"
    assert finished.results == [{"success": False}]


async def test_a_paused_grader_gives_back_jobs_that_still_arrive(tmp_path: Path) -> None:
    broker, containers = RecordingBroker(), FakeContainers()
    subject = worker(containers, tmp_path, Spool(tmp_path / "spool", JobFinished), broker)
    subject.availability.obey(GraderOrder(grader_id="g1", revision=1, mode=GraderMode.PAUSED, reason="a new disk"))

    with pytest.raises(GiveBack, match="a new disk"):
        await subject.work(dispatched("exit", "0"))

    assert (broker.events, containers.started) == ([], [])


async def cancelled(subject: Worker, containers: FakeContainers, *command: str, **more: Any) -> None:
    """Let a worker run a job, and cancel the job while its stage runs."""
    job = dispatched(*command, **more)
    before = len(containers.started)
    working = asyncio.create_task(subject.work(job))
    await until(lambda: len(containers.started) > before)
    await subject.obey(CancelJob(**job.ids, reason="cancelled by the course staff"))
    await working


async def test_the_output_of_a_cancelled_job_is_reported_and_changes_nothing_here(tmp_path: Path) -> None:
    broker, containers = RecordingBroker(), FakeContainers()
    spool = Spool(tmp_path / "spool", JobFinished)
    subject = worker(containers, tmp_path, spool, broker)
    keeping = stage("write", "plot.png", "1", artifacts=["*.png"])
    stages = [keeping, stage("print-and-hang", "so far")]
    job = dispatched("exit").model_copy(update={"stages": stages})
    working = asyncio.create_task(subject.work(job))
    await until(lambda: len(containers.started) == 2)
    for _ in range(2):  # the command may be repeated
        await subject.obey(CancelJob(**job.ids, reason="cancelled by the course staff"))
    await working

    (finished,) = broker.events
    assert isinstance(finished, JobFinished)
    assert (finished.outcome, finished.reason) == (Outcome.CANCELLED, "stage 2 of 2: cancelled while it ran")
    assert finished.stdout.endswith(" so far\n")
    assert finished.stderr == "", "its artifacts are not sent"
    assert (list(spool), subject.running) == ([], [])

    await subject.work(dispatched("exit", "0"))
    again = broker.events[-1]
    assert isinstance(again, JobFinished)
    assert again.outcome is Outcome.SUCCEEDED, "a job that comes again runs: another grader may have lost it"


async def test_a_control_plane_that_does_not_know_the_outcomes_of_cancelled_jobs_gets_none(tmp_path: Path) -> None:
    broker, containers = RecordingBroker(), FakeContainers()
    subject = worker(containers, tmp_path, Spool(tmp_path / "spool", JobFinished), broker)
    subject.reports.cancelled_logs = False

    await cancelled(subject, containers, "hang")

    assert (broker.events, list(subject.spool), subject.running) == ([], [], [])


async def test_a_cancelled_job_is_no_sign_of_a_whole_grader(tmp_path: Path) -> None:
    broker, containers = RecordingBroker(), FakeContainers()
    subject = worker(containers, tmp_path, Spool(tmp_path / "spool", JobFinished), broker)
    check = subject.availability.self_check
    containers.is_broken = True
    for number in range(4):
        await subject.work(dispatched("exit", job=f"j{number}"))
    containers.is_broken = False
    await cancelled(subject, containers, "hang", job="unwanted")
    containers.is_broken = True
    assert check.reason == ""
    await subject.work(dispatched("exit", job="j5"))
    assert "5 jobs in a row" in check.reason


async def test_the_output_of_a_cancelled_job_does_not_keep_a_slot_while_the_broker_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadway.grader.worker.worker.LOG_WITHIN", 0.01)
    spool, containers = Spool(tmp_path / "spool", JobFinished), FakeContainers()
    subject = worker(containers, tmp_path, spool, AbsentBroker())
    await cancelled(subject, containers, "hang")

    (kept,) = spool
    assert kept.outcome is Outcome.CANCELLED
    assert subject.running == []
    await subject.aclose()

    broker = RecordingBroker()
    reborn = worker(containers, tmp_path, spool, broker)
    await reborn.report_spooled()
    assert (broker.events, list(spool)) == ([kept], [])


async def test_a_spooled_cancellation_does_not_answer_for_a_job_that_comes_again(tmp_path: Path) -> None:
    broker, containers = RecordingBroker(), FakeContainers()
    spool = Spool(tmp_path / "spool", JobFinished)
    await cancelled(worker(containers, tmp_path, spool, broker), containers, "hang")
    (finished,) = (event for event in broker.events if isinstance(event, JobFinished))
    await spool.put(finished)

    await worker(containers, tmp_path / "later", spool, broker).work(dispatched("exit", "0"))
    assert [event.outcome for event in broker.events if isinstance(event, JobFinished)] == [
        Outcome.CANCELLED,
        Outcome.SUCCEEDED,
    ]


async def test_an_execution_that_does_not_stop_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadway.grader.worker.worker.STOP_WITHIN", 0.01)
    broker, containers = RecordingBroker(), FakeContainers()
    containers.is_stuck = True
    subject = worker(containers, tmp_path, Spool(tmp_path / "spool", JobFinished), broker)
    await cancelled(subject, containers, "hang")
    assert (broker.events, subject.running) == ([], [])

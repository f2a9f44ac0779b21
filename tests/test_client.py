"""The client reads the answers of this server, and those of older and newer servers."""

import json
from datetime import UTC, datetime
from typing import Any

from broadway.client import GraderDescription, RunDescription
from broadway.messages.resources.graders import GraderView, Wanted
from broadway.messages.resources.jobs import JobSummary
from broadway.messages.resources.runs import PhaseView, RunDetail

T0 = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
JOB = JobSummary(
    id="j1",
    phase="students",
    state="finished",
    outcome="failed",
    reason="exit code 1",
    fault_phase=None,
    seconds=1.5,
    queue_seconds=0.25,
    attempts=1,
    grader="g1",
    queued_at=T0,
    dispatched_at=T0,
    started_at=T0,
    finished_at=None,
    env={"NETID": "a"},
)
PHASE = PhaseView(
    phase="students",
    state="running",
    jobs=1,
    outcomes={"failed": 1},
    queued_at=T0,
    started_at=T0,
    finished_at=None,
    reason="exit code 1",
)
RUN = RunDetail(
    id="r1",
    course="cs1",
    assignment="mp1",
    state="students",
    round=2,
    students=1,
    started_at=T0,
    finished_at=None,
    success=None,
    trigger=None,
    reason="",
    phases=[PHASE],
)
GRADER = GraderView(
    id="g1",
    hostname="host1",
    pool="default",
    state="online",
    slots=2,
    reason="",
    wanted=Wanted(mode="online", slots=None),
    running=["j1"],
    jobs_processed=7,
    last_seen=T0,
    way="broker",
    runtime="oci",
    has_secret=True,
)
TIMES = ("queued_at", "dispatched_at", "started_at", "finished_at")


def without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


def run_with_its_job() -> dict[str, Any]:
    return {**RUN.model_dump(mode="json"), "jobs": [JOB.model_dump(mode="json")]}


def test_a_run_is_written_as_the_server_sent_it() -> None:
    document = run_with_its_job()
    run = RunDescription.model_validate(document)

    assert (run.round, run.jobs[0].queued_at) == (2, T0)
    shown = json.loads(run.model_dump_json())
    assert shown == without(document, "round", "students", "trigger")
    assert list(shown) == [name for name in document if name in shown]


def test_a_run_of_an_older_server_can_be_read() -> None:
    document = run_with_its_job()
    document["jobs"] = [without(job, *TIMES) for job in document["jobs"]]
    run = RunDescription.model_validate(without(document, "round", "students", "trigger", "reason", "phases"))

    assert (run.reason, run.phases) == ("", [])
    assert run.jobs[0].queued_at is None
    assert run.model_dump(mode="json")["jobs"] == [{**run_with_its_job()["jobs"][0], **dict.fromkeys(TIMES)}]


def test_a_grader_is_written_as_the_server_sent_it() -> None:
    document = GRADER.model_dump(mode="json")

    assert GraderDescription.model_validate(document).model_dump(mode="json") == document


def test_a_grader_of_an_older_server_can_be_read() -> None:
    assert GraderDescription.model_validate(without(GRADER.model_dump(mode="json"), "runtime")).runtime == ""


def test_fields_of_a_newer_server_are_ignored() -> None:
    document = {**GRADER.model_dump(mode="json"), "color": "blue"}

    assert GraderDescription.model_validate(document).id == "g1"

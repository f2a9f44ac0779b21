"""W3C Trace Context: accepted traceparents, and how they travel with events."""

import json
from datetime import UTC, datetime

import pytest

from broadway.domain import trace
from broadway.domain.job import JobClass, Outcome, Phase
from broadway.domain.run import Run, RunState, plan_jobs
from broadway.messages.envelope import decode, decode_dead_letter, encode
from broadway.messages.events import JobQueued, JobSettled, ids_of

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ID = "4bf92f3577b34da6a3ce929d0e0e4736"
IDS = {"course": "cs241", "run_id": "r", "job_id": "j", "generation": 1}


@pytest.mark.parametrize("given", [GIVEN, f" {GIVEN} ", f"cc{GIVEN[2:]}-what-the-future-brings"])
def test_a_valid_traceparent_is_accepted(given: str) -> None:
    taken = trace.accepted(given)
    assert trace.trace_id(taken) == ID
    assert taken
    assert taken[2:] == GIVEN[2:], "and nothing of what a later version adds"


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "nonsense",
        GIVEN.upper(),
        f"{GIVEN}-more",
        f"ff{GIVEN[2:]}",
        GIVEN.replace(ID, "0" * 32),
        GIVEN.replace("00f067aa0ba902b7", "0" * 16),
        f"{GIVEN}\nx",
    ],
)
def test_an_invalid_traceparent_is_not_accepted(given: str | None) -> None:
    assert trace.accepted(given) is None


def test_a_new_traceparent_is_valid() -> None:
    assert trace.accepted(trace.begun())
    assert trace.begun() != trace.begun()


def test_an_event_carries_its_traceparent_only_in_headers() -> None:
    wire = encode(JobQueued(**IDS, job_class=JobClass.BULK, traceparent=GIVEN), source="/broadway/test")
    assert wire.headers["traceparent"] == wire.headers["ce-traceparent"] == GIVEN
    assert "traceparent" not in json.loads(wire.body)
    read = decode(wire.headers, wire.body)
    assert read.traceparent == GIVEN
    assert read.context == {"course": "cs241", "run": "r", "job": "j", "trace": ID}
    assert decode_dead_letter(wire.headers, wire.body).context == read.context
    assert decode_dead_letter(wire.headers, b"?", "broadway").context == read.context
    assert decode_dead_letter(wire.headers, b"?").context == {}, "its headers alone prove nothing"


def test_an_event_without_a_traceparent_is_unchanged() -> None:
    wire = encode(JobQueued(**IDS, job_class=JobClass.BULK), source="/broadway/test")
    assert not [name for name in wire.headers if "trace" in name]
    assert decode(wire.headers, wire.body).context == {"course": "cs241", "run": "r", "job": "j"}
    assert decode({**wire.headers, "traceparent": "nonsense"}, wire.body).traceparent is None


def test_following_events_and_jobs_keep_the_traceparent() -> None:
    queued = JobQueued(**IDS, job_class=JobClass.BULK, traceparent=GIVEN)
    assert JobSettled(**queued.ids, phase=Phase.STUDENTS, outcome=Outcome.FAILED).traceparent == GIVEN
    run = Run(
        id="1" * 24,
        course="cs241",
        assignment="mp1",
        state=RunState.READY,
        started_at=datetime.now(UTC),
        config={"student_pipeline": [{"image": "x"}]},
        students_env=[{"STUDENT_ID": "ada"}],
        traceparent=GIVEN,
    )
    (plan,) = plan_jobs(run, Phase.STUDENTS, run.started_at)
    assert ids_of(plan.job)["traceparent"] == GIVEN
    assert GIVEN not in json.dumps(plan.stages), "containers are not told"

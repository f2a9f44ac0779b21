"""One trace from the submitting request to the end of the run, in every event and every log line."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from collector import Got, collecting
from harness import Client, Cluster, Place, free_port, stage, token_of, until
from processes import CLUSTER_TOKEN, QUICK_DISPATCHER, Processes, processes
from pushes import MAIN, push, signature
from pymongo import AsyncMongoClient

from broadway.domain.job import JobClass
from broadway.domain.webhook import Delivery, DeliveryState, Push, delivery_key
from broadway.ingest.commands import undecided
from broadway.ingest.commands.backlogs import Backlogs
from broadway.ingest.commands.limits import Limits
from broadway.ingest.commands.submit import NewRun, NewRuns, RunRequest
from broadway.lifecycle import phases
from broadway.messages.batches import parts_of
from broadway.messages.envelope import decode
from broadway.messages.events import Event, RunAdvanced
from broadway.messages.topology import EVENTS, JOBS, Binding, Queue, course_key, ready_key
from broadway.runtime import tracing


@pytest.fixture(scope="module", autouse=True)
def _sweeps_often() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(undecided, "SWEEP_INTERVAL", 0.5)
        yield


COURSE = "cs241"
GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SECRET = "a-secret-of-this-hook"
LONG = stage("sleep", "0.5")  # its start is published
ID = "4bf92f3577b34da6a3ce929d0e0e4736"
EVENT_TYPES = {
    "job.queued.v1",
    "job.dispatched.v1",
    "job.started.v1",
    "job.finished.v1",
    "job.settled.v1",
    "run.advanced.v1",
}
SPY = Queue(
    "spy",
    (
        Binding(EVENTS.name, "job.#"),
        Binding(EVENTS.name, "run.#"),
        *(Binding(JOBS.name, course_key(COURSE, job_class)) for job_class in JobClass),
        Binding(JOBS.name, ready_key("default")),
    ),
    exclusive=True,
)


async def submit(client: Client, assignment: str, students: int, **headers: str) -> str:
    body = {"students_env": [{"STUDENT_ID": f"s{n}"} for n in range(students)]}
    answer = await client.http.post(
        f"/api/v1/grading_run/{COURSE}/{assignment}",
        json=body,
        headers={"Authorization": f"Bearer {token_of(COURSE)}", **headers},
    )
    assert answer.status_code == 200, answer.text
    run_id: str = answer.json()["data"]["grading_run_id"]
    return run_id


class Spy:
    """Copies of all messages about jobs and runs: their types and headers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Any]] = []

    def read(self, headers: Mapping[str, Any], body: bytes, _: str = "") -> Event:
        event = decode(headers, body)
        for part in parts_of(event):
            run_id = part.run_id if hasattr(part, "run_id") else ""
            traceparent = headers.get("traceparent") if part is event else part.traceparent
            self.seen.append((run_id, part.type, traceparent))
        return event

    async def ignore(self, event: Event) -> None:
        pass

    def of(self, run_id: str) -> list[tuple[str, Any]]:
        return [(kind, traceparent) for about, kind, traceparent in self.seen if about == run_id]


async def test_every_event_of_a_run_carries_the_trace_of_its_request(cluster: Cluster) -> None:
    spy = Spy()
    cluster.graders.start("host1")
    phases = {"pre_processing_pipeline": [stage("exit", "0")], "post_processing_pipeline": [LONG]}
    await cluster.client.register(COURSE, "mp1", students=[stage("env", "traceparent")], **phases)
    async with cluster.opened.rabbit.consume(SPY, spy.ignore, tag="spy", prefetch=100, decoder=spy.read):
        run_id = await submit(cluster.client, "mp1", 2, traceparent=GIVEN)
        other = await submit(cluster.client, "mp1", 2)
        run = await cluster.client.finished(COURSE, run_id)
        await cluster.client.finished(COURSE, other)

        def is_all_there() -> bool:
            return sum(kind == RunAdvanced.type for kind, _ in spy.of(run_id) + spy.of(other)) >= 8

        await until(is_all_there)

    assert {kind for kind, _ in spy.of(run_id)} == EVENT_TYPES
    assert {traceparent for _, traceparent in spy.of(run_id)} == {GIVEN}
    (made_up,) = {traceparent for _, traceparent in spy.of(other)}
    assert made_up not in (GIVEN, None)
    student = next(job for job in run["jobs"] if job["phase"] == "students")
    log = await cluster.client.get(f"grading_job_log/{COURSE}/{student['id']}", token=token_of(COURSE))
    assert log.json()["data"]["stdout"].endswith(" None\n"), "a stage has no such variable"


async def make_hook(client: Client) -> None:
    staff = {"Authorization": f"Bearer {token_of(COURSE)}"}
    roster = {"students": [{"student": "alice", "repository": "cs/alice"}]}
    config = {"assignment": "mp1", "secrets": [SECRET]}
    for path, body in (("assignments/mp1/roster", roster), ("hooks/git", config)):
        answer = await client.http.put(f"/api/v2/courses/{COURSE}/{path}", json=body, headers=staff)
        assert answer.status_code == 200, answer.text


async def test_a_delivery_to_a_webhook_begins_the_trace_of_its_run(cluster: Cluster) -> None:
    spy = Spy()
    cluster.graders.start("host1")
    await cluster.client.register(COURSE, "mp1", students=[LONG])
    await make_hook(cluster.client)
    body = json.dumps(push("alice")).encode()
    own = {"X-GitHub-Delivery": "d1", "X-Hub-Signature-256": signature(body, SECRET), "traceparent": GIVEN}
    async with cluster.opened.rabbit.consume(SPY, spy.ignore, tag="spy", prefetch=100, decoder=spy.read):
        answer = await cluster.client.http.post(f"/api/v2/courses/{COURSE}/hooks/git", content=body, headers=own)
        assert answer.json()["state"] == "accepted", answer.text
        run_id = answer.json()["run"]
        await cluster.client.finished(COURSE, run_id)

        await until(lambda: {kind for kind, _ in spy.of(run_id)} == EVENT_TYPES)

    assert {traceparent for _, traceparent in spy.of(run_id)} == {GIVEN}


async def test_the_spans_of_a_push_reach_from_the_webhook_to_the_outcome(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    await cluster.client.register(COURSE, "mp1", students=[stage("print", "a"), stage("exit", "3")])
    await make_hook(cluster.client)
    body = json.dumps(push("alice")).encode()
    own = {"X-GitHub-Delivery": "d1", "X-Hub-Signature-256": signature(body, SECRET), "traceparent": GIVEN}
    with collecting() as collector:
        with tracing.exporting(collector.endpoint, service="api", instance="api@test:1"):
            answer = await cluster.client.http.post(f"/api/v2/courses/{COURSE}/hooks/git", content=body, headers=own)
            run = await cluster.client.finished(COURSE, answer.json()["run"])
        spans = {span.id: span for span in collector.spans if span.trace == ID}

    def path(span: Got) -> list[str]:
        return [*(path(spans[span.parent]) if span.parent in spans else [span.parent]), span.name]

    (job,) = run["jobs"]
    request = [GIVEN.split("-")[2], "POST /api/v2/courses/{course}/hooks/{hook}"]
    assert sorted(path(span) for span in spans.values()) == sorted(
        [
            request,
            [*request, "job"],
            [*request, "job", "wait"],
            [*request, "job", "wait", "backlog"],
            [*request, "job", "attempt"],
            [*request, "job", "attempt", "stage"],
            [*request, "job", "attempt", "stage"],
        ]
    )
    (of_job,) = [span for span in spans.values() if span.name == "job"]
    assert (of_job.attributes["broadway.job"], of_job.attributes["broadway.outcome"]) == (job["id"], "failed")
    assert {span.error for span in spans.values()} == {""}, "a student's failure is no error"


async def test_a_delivery_whose_process_died_before_the_decision_keeps_its_trace(cluster: Cluster) -> None:
    spy = Spy()
    cluster.graders.start("host1")
    await cluster.client.register(COURSE, "mp1", students=[LONG])
    await make_hook(cluster.client)
    now = datetime.now(UTC)
    lost = Delivery(
        id=delivery_key(COURSE, "git", "lost"),
        course=COURSE,
        hook="git",
        assignment="mp1",
        delivery_id="lost",
        received_at=now,
        state=DeliveryState.RECEIVED,
        push=Push(version="0" * 40, ref=MAIN, repository="cs/alice"),
        due_at=now,
        traceparent=GIVEN,
    )
    async with cluster.opened.rabbit.consume(SPY, spy.ignore, tag="spy", prefetch=100, decoder=spy.read):
        await cluster.opened.store.deliveries.keep(lost)

        def is_complete() -> bool:
            return {kind for _, kind, traceparent in spy.seen if traceparent == GIVEN} >= EVENT_TYPES

        await until(is_complete)

    decided = await cluster.opened.store.deliveries.get(lost.id)
    assert decided
    assert {kind for kind, traceparent in spy.of(decided.run_id or "") if traceparent == GIVEN} == EVENT_TYPES


async def test_messages_of_the_reconciler_carry_the_trace_too(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "PUBLISH_GRACE", timedelta(seconds=0.5))  # then the run is the reconciler's
    spy = Spy()
    await cluster.client.register(COURSE, "mp1", students=[stage("exit", "0")])
    course = await cluster.opened.store.courses.get(COURSE)
    assert course
    store = cluster.opened.store
    roster = RunRequest(students_env=[{"STUDENT_ID": f"s{n}"} for n in range(2)])
    backlogs, limits = Backlogs(store.jobs), Limits(max_job_seconds=1000)
    new_runs = NewRuns(store.assignments, store.runs, store.jobs, limits, backlogs)
    async with cluster.opened.rabbit.consume(SPY, spy.ignore, tag="spy", prefetch=100, decoder=spy.read):
        stored = await new_runs.submit(NewRun(course, "mp1", roster, traceparent=GIVEN))
        await until(lambda: ("job.queued.v1", GIVEN) in spy.of(stored.run_id))


async def test_a_run_stored_without_a_trace_is_graded_without_one(cluster: Cluster) -> None:
    spy = Spy()
    await cluster.client.register(COURSE, "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit(COURSE, "mp1", students=2)
    async with AsyncMongoClient[dict[str, Any]](cluster.place.mongodb_dsn) as client:
        database = client[f"{cluster.place.name}_ag"]
        await database["grading_run"].update_one({"_id": ObjectId(run_id)}, {"$unset": {"traceparent": 1}})
        await database["grading_job"].update_many({"grading_run_id": run_id}, {"$unset": {"traceparent": 1}})
    async with cluster.opened.rabbit.consume(SPY, spy.ignore, tag="spy", prefetch=100, decoder=spy.read):
        cluster.graders.start("host1")
        await cluster.client.finished(COURSE, run_id)
        await until(lambda: ("job.settled.v1", None) in spy.of(run_id))


@pytest.fixture
def courses_file(tmp_path: Path) -> Path:
    file = tmp_path / "courses.json"
    file.write_text(json.dumps({COURSE: {"tokens": [token_of(COURSE)]}}))
    return file


def lines(programs: Processes, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in programs.log(name).splitlines() if line.startswith("{")]


async def test_log_lines_of_all_programs_are_joined_by_run_and_trace(
    place: Place, tmp_path: Path, courses_file: Path
) -> None:
    port = free_port()
    flags = ("--bind-addr", "127.0.0.1", "--bind-port", str(port), "--token", CLUSTER_TOKEN, "--log-level", "DEBUG")
    async with (
        processes(tmp_path / "logs", place.environment) as programs,
        Client.connect(f"http://127.0.0.1:{port}") as client,
    ):
        await programs.service("api", *QUICK_DISPATCHER, *flags, "--course-config", str(courses_file))
        await until(client.is_ready)
        await programs.grader("host1")
        await client.register(COURSE, "mp1", students=[stage("exit", "0")])
        run_id = await submit(client, "mp1", 2, traceparent=GIVEN, **{"X-Request-Id": "night-1"})
        run = await client.finished(COURSE, run_id)
        jobs = {job["id"] for job in run["jobs"]}
        secret = await client.http.get("/api/v1/worker/x/all", params={"token": "s3cret"})
        assert secret.headers["x-request-id"]

        of_run = {
            name: [line for line in lines(programs, name) if line.get("run") == run_id] for name in ("api", "host1")
        }
        assert all(of_run.values()), of_run
        by_poll = [line for line in of_run["api"] if line["event"] == "answered"]
        traced = [line for line in (*of_run["api"], *of_run["host1"]) if line not in by_poll]
        assert {line["trace"] for line in traced} == {ID}
        assert {line["course"] for line in traced} == {COURSE}
        (submitted,) = [line for line in traced if line["event"] == "run submitted"]
        assert submitted["request"] == "night-1"
        finished = [line for line in of_run["host1"] if line["event"] == "finished"]
        assert {line["job"] for line in finished} == jobs
        assert {line["grader"] for line in finished} == {"host1"}
        assert {line["attempt"] for line in finished} == {1}
        assert len({line["execution"] for line in finished}) == 2
        (accepted,) = [line for line in lines(programs, "api") if line.get("request") == "night-1" and "status" in line]
        assert (accepted["event"], accepted["method"], accepted["status"]) == ("answered", "POST", 200)
        assert accepted["trace"] == ID
        assert "s3cret" not in programs.log("api"), "a query is not logged"

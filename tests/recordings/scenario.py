"""The scenario: every action that makes messages or documents, one after another.

Each step waits for the messages that end it, so that every recording has the same messages. A job that is cancelled
while its message waits would hang if it ran, so a grader that takes it anyway always receives the cancellation in time.
A grader gets orders only while it is idle, which a completed job in its only slot shows.
"""

import json
from datetime import UTC, datetime
from typing import Any

from fake_containers import FakeContainers
from harness import stage, token_of, until
from recordings import gateway, grades, webhooks
from recordings.capture import TYPE
from recordings.system import System, databases

from broadway.mongo.store import Store

COURSE = "cs101"
HANG = [stage("hang", timeout=600)]
SCORES = {"score": 2, "max_score": 3.5, "tests": [{"name": "compiles", "score": 2, "max_score": 3.5, "output": "ü"}]}
REPORT = {
    "tests": [
        {"name": "compiles", "score": 1, "max_score": 1, "visibility": "visible", "output": "ü"},
        {"name": "secret", "score": 0.5, "max_score": 2, "visibility": "hidden"},
    ]
}
ROSTER = [
    {"student": "alice", "env": {"NETID": "a1", "SECTION": 3}, "repository": "cs/alice"},
    {"student": "bob", "env": {"NETID": "b2"}, "repository": "cs/bob", "repository_id": 77},
]


async def play(system: System) -> None:
    """Run the whole scenario. At its end, some jobs wait, and one runs behind the API."""
    await grades.register_callbacks(system)
    lost = await submit_while_the_queue_is_gone(system)
    engine = system.graders.attach("host1", system.url, slots=1, drain_timeout=0)
    await system.capture.wait_for("grader.heartbeat", grader_id="host1")
    await run_every_kind_of_stage(system)
    await end_in_every_way(system)
    await cancel(system)
    await run_a_roster(system)
    await take_files(system)
    await grades.grade(system)
    await follow_a_log(system, engine)
    await order_a_grader(system)
    await webhooks.deliver(system)
    await move_a_job_to_another_host(system)
    await gateway.poll(system)
    await leave_dead_letters(system)
    await gateway.serve_socket(system, lost)
    await gateway.leave_unfinished(system)
    await system.ask("POST", "graders/host2/slots", {"slots": 3}, status=202)
    await system.find("worker_node", _id="host2", slots=3)
    await remove_what_is_old(system)
    await delete_a_student(system)
    await grades.end(system)


async def submit_while_the_queue_is_gone(system: System) -> str:
    """Submit a run whose job is unroutable: the reconciler publishes it from the outbox some seconds later."""
    course, key = "cs374", "course.cs374.interactive"
    await until(lambda: system.capture.has_consumers(f"broadway.{key}"))
    await system.client.register(course, "mp1", students=[stage("exit", "0")])
    await system.capture.disconnect(f"broadway.{key}", key)
    run_id = await system.client.submit(course, "mp1", students=1)
    await system.capture.wait_for("run.advanced", run_id=run_id)
    await system.capture.reconnect(f"broadway.{key}", key)
    return run_id


async def run_every_kind_of_stage(system: System) -> None:
    """Run all three phases through v1; then rerun the failed job and the post-processing."""
    students = [
        stage("write", "notes.txt", "collected", memory="512m", hostname="judge", cpuset_cpus="0-1", networking=False),
        stage("print", "compiled", untrusted=True, read=["notes.txt"], write=["build"], inherit=["TERM"], timeout=5),
        stage("fails-for", "STUDENT_ID", "s1", logs=False, env={"TERM": "spring"}),
        stage("write", "results.json", json.dumps(SCORES), results="results.json"),
    ]
    await system.client.register(
        COURSE,
        "mp1",
        students=students,
        pre_processing_pipeline=[stage("print", "prepared", env={"A": "1"}, timeout=12.5)],
        post_processing_pipeline=[stage("env", "REPORT")],
        env={"TERM": "fall", "LIMIT": 3, "SHARE": 0.25, "NESTED": {"list": [1, None, True, "é"]}},
    )
    more = {"pre_processing_env": {"B": "2"}, "post_processing_env": {"REPORT": "all"}}
    run_id = await system.client.submit(COURSE, "mp1", students=2, **more)
    await system.over(run_id)
    await system.ask("POST", f"courses/{COURSE}/runs/{run_id}/rerun", {"jobs": "failed"})
    await system.over(run_id, round_=2)


async def end_in_every_way(system: System) -> None:
    """End jobs in all other ways; a retryable infrastructure error gets a second start."""
    endings: dict[str, dict[str, list[dict[str, Any]]]] = {
        "pre": {"students": [stage()], "pre_processing_pipeline": [stage("exit", "3")]},
        "limits": {"students": [stage("hang", timeout=0.05)], "post_processing_pipeline": [stage("exit", "139")]},
        "engine": {
            "students": [stage("print", "begun"), stage("fault", "start")],
            "post_processing_pipeline": [stage("exit", "0") | {"image": "missing/image"}],
        },
    }
    for assignment, pipelines in endings.items():
        await system.client.register(COURSE, assignment, **pipelines)
        await system.over(await system.client.submit(COURSE, assignment, students=1))
    # Environments so large that they are stored apart, of students whose jobs are never made.
    large = [{"STUDENT_ID": f"s{n}", "LARGE": "x" * 100_000} for n in range(3)]
    await system.over(await system.client.submit(COURSE, "pre", students=3, students_env=large))


async def cancel(system: System) -> None:
    """Cancel a running job; then cancel its run, which has one job running, one dispatched, and one waiting."""
    capture = system.capture
    await system.client.register(COURSE, "long", students=[stage("sleep", "0.5")])
    await system.over(await system.client.submit(COURSE, "long", students=1))
    await until(lambda: capture.has_consumers("broadway.ready.default"))  # the grader takes no early jobs now
    await system.client.register(COURSE, "hang", students=HANG)
    run_id = await system.client.submit(COURSE, "hang", students=4)
    first = await system.runs(run_id)
    because = {"reason": "wrong deadline"}
    await system.ask("POST", f"courses/{COURSE}/jobs/{first['job_id']}/cancel", because)
    await system.runs(run_id, count=2)
    await capture.wait_for("job.dispatched", run_id=run_id, count=3)
    await system.ask("POST", f"courses/{COURSE}/runs/{run_id}/cancel")
    await system.over(run_id, round_=2)
    await capture.wait_for("job.cancel", run_id=run_id, count=3)  # the last one is for the dispatched job


async def run_a_roster(system: System) -> None:
    """Run a roster through v2, submitted twice with the same key."""
    assignment = f"courses/{COURSE}/assignments/mp2"
    await system.ask("PUT", assignment, {"student_pipeline": [stage("env", "NETID")]})
    await system.ask("PUT", f"{assignment}/roster", {"students": ROSTER})
    for key in ("first-night", '"first-night"'):
        headers = {"Idempotency-Key": key}
        run = await system.ask("POST", f"{assignment}/runs", {"students": "all"}, status=201, **headers)
    await system.over(run["id"])


async def take_files(system: System) -> None:
    """Take the files of two students, with a report and an artifact; one submission waits for a roster's run."""
    assignment = f"courses/{COURSE}/assignments/files"
    results = {"format": "gradescope", "path": "results.json"}
    judge = stage("write", "results.json", json.dumps(REPORT), results=results, artifacts=["*.json"])
    await system.ask("PUT", assignment, {"student_pipeline": [stage("digests", "submission"), judge]})
    rules = {"required": ["src/*.c"], "max_bytes": 100_000}
    await system.ask("PUT", f"{assignment}/settings", {"points": 10, "files": rules, "only_latest": True})
    made = await system.hand_in(COURSE, "files", "alice", {"src/main.c": b"int main(void) {}", "README": b""})
    await system.over(made["run_id"])
    await system.ask("PUT", f"{assignment}/settings", {"points": 10, "starts": "with_roster"})
    await system.hand_in(COURSE, "files", "bob", {"src/main.c": b"int main(void) {}"})


async def remove_what_is_old(system: System) -> None:
    """Set a course's rules of retention, and count by them; remove a submission as a pass would."""
    await system.ask("PUT", f"courses/{COURSE}/retention", {"works": 365, "logs": "keep"})
    await system.ask("POST", f"courses/{COURSE}/retention/passes", {"dry_run": True}, status=202)
    await system.find("retention", _id=COURSE, ordered=None, last_dry={"$ne": None})
    made = await system.find("submission", course=COURSE, assignment="files", student="bob")
    names = databases(system.place.name)
    async with Store.connect(system.place.mongodb_dsn, primary=names["primary"], logs=names["logs"]) as store:
        assert await store.removals.remove_submissions(COURSE, "files", [made["_id"]], datetime.now(UTC)) == 1


async def delete_a_student(system: System) -> None:
    """Hand in for a student whose data are then deleted."""
    await system.hand_in(COURSE, "files", "eve", {"src/main.c": b"int main(void) {}"})
    await system.ask("POST", f"courses/{COURSE}/students/eve/deletion", {"reason": "asked for"}, status=202)
    await system.find("student_deletion", course=COURSE, ended_at={"$exists": True})


async def follow_a_log(system: System, engine: FakeContainers) -> None:
    """Follow the log of a running job, which writes one line before and one after its reader comes."""
    await system.client.register(COURSE, "live", students=[stage("pipe")])
    run_id = await system.client.submit(COURSE, "live", students=1)
    job = await system.runs(run_id)
    await engine.pipe.put("first\n")
    path = f"/api/v2/courses/{COURSE}/jobs/{job['job_id']}/log/stream"
    async with system.http.stream("GET", path, headers={"Authorization": f"Bearer {token_of(COURSE)}"}) as stream:
        assert stream.is_success
        await system.capture.wait_for("log.chunk", run_id=run_id)
        await engine.pipe.put("second\n")
        await system.capture.wait_for("log.chunk", run_id=run_id, count=2)
    await engine.pipe.put(None)
    await system.over(run_id)


async def order_a_grader(system: System) -> None:
    """Give a grader at the broker every order, each one after the grader has obeyed the previous one."""
    orders = (
        ("pause", {"reason": "maintenance"}),
        ("resume", None),
        ("drain", None),
        ("resume", {"reason": "repaired"}),
        ("slots", {"slots": 2}),
        ("slots", {"slots": None}),
    )
    for revision, (order, body) in enumerate(orders, 1):
        await system.ask("POST", f"graders/host1/{order}", body, status=202)
        await system.capture.wait_for("grader.heartbeat", grader_id="host1", order=revision)
    for order in ("revoke", "readmit", "revoke"):
        await system.ask("POST", f"graders/never-seen/{order}", status=202)
    await system.capture.wait_for("grader.order", grader_id="never-seen", count=3)


async def move_a_job_to_another_host(system: System) -> None:
    """Stop a grader while it runs a job: it gives the job back, and another grader takes it."""
    run_id = await system.client.submit(COURSE, "hang", students=1)
    await system.runs(run_id)
    await system.graders.stop("host1")
    await system.capture.wait_for("grader.heartbeat", grader_id="host1", leaving=True)
    system.graders.attach("host2", system.url, slots=1)
    job = await system.runs(run_id, grader_id="host2")
    await system.ask("POST", f"courses/{COURSE}/jobs/{job['job_id']}/cancel")
    await system.over(run_id)


async def leave_dead_letters(system: System) -> None:
    """Publish messages that no service can read; the last one was a job's outcome, and ends the job."""
    capture = system.capture
    await system.client.register("cs225", "dead", students=[stage("exit", "0")])
    run_id = await system.client.submit("cs225", "dead", students=1)
    poller = await gateway.registered(system, "p9")
    await gateway.next_job(poller)
    started = await system.runs(run_id)
    await capture.publish("broadway.events", "job.finished.cs225", b"\xff\x00 no text", {})
    await system.find("dead_letter", queue="broadway.results")
    await capture.publish("broadway.jobs", "ready.default", b"{}", {"ce-type": TYPE.format("job.dispatched")})
    await system.find("dead_letter", queue="broadway.ready.default")
    headers = {
        "ce-type": TYPE.format("job.finished"),
        "ce-subject": f"cs225/{run_id}/{started['job_id']}",
        "ce-id": f"{started['execution_id']}:job.finished.v1",
    }
    await capture.publish("broadway.events", "job.finished.cs225", b'{"outcome": "odd"}', headers)
    await system.over(run_id)
    await gateway.leave(system, "p9")

"""The scenario's graders behind the API, with the original's HTTP and WebSocket protocols and with our own."""

import json
from typing import Any

import websockets
from harness import stage, until
from pollers import Poller, result
from recordings.system import CLUSTER, SPARE, System

COURSE = "cs225"
OURS = {"User-Agent": "broadway-grader/0"}
USAGE = {
    "wall_seconds": 1.25,
    "cpu_seconds": 0.5,
    "memory_bytes": 9_000_000_000,
    "pull_seconds": 0.0,
    "output_bytes": 12,
}


async def registered(system: System, name: str) -> Poller:
    """Register a grader of the original with the gateway, and wait for its heartbeat."""
    poller = Poller(system.http, name)
    answer = await poller.register()
    assert answer.is_success, answer.text
    await system.capture.wait_for("grader.heartbeat", grader_id=name)
    return poller


async def next_job(poller: Poller) -> dict[str, Any]:
    """Poll until there is a job."""
    job: dict[str, Any] = await until(poller.poll)
    return job


async def poll(system: System) -> None:
    """Run jobs on polling graders, both the original's and our own."""
    poller = await registered(system, "p1")
    await system.client.register(
        COURSE, "mp1", students=[stage("exit", "0")], post_processing_pipeline=[stage("exit", "0")]
    )
    await _report_successes_and_failures(system, poller)
    await _hand_a_job_around(system, poller)
    await _report_as_ours(system)


async def _report_successes_and_failures(system: System, poller: Poller) -> None:
    run_id = await system.client.submit(COURSE, "mp1", students=2)
    reports: list[dict[str, Any]] = [
        {"success": True, "results": []},
        {"success": False, "results": [{"data": {"ExitCode": 137, "OOMKilled": True}, "killed": False}]},
        {"success": True, "logs": {"stdout": "line 1\nline 2\n", "stderr": "été"}},  # post-processing
    ]
    for beats, report in enumerate(reports, 2):
        job = await next_job(poller)
        await poller.post("heartbeat")
        await system.capture.wait_for("grader.heartbeat", grader_id="p1", count=beats)
        assert (await poller.report(job["grading_job_id"], **report)).is_success
    await system.over(run_id)


async def _hand_a_job_around(system: System, poller: Poller) -> None:
    """Run one job on several graders: an engine fails, a grader leaves, one is revoked, and the last one succeeds.

    The job avoids the grader where it failed, but at that time there is no other grader.
    """
    await system.client.register(COURSE, "mp2", students=[stage("exit", "0")])
    run_id = await system.client.submit(COURSE, "mp2", students=1)
    job = await next_job(poller)
    logs = {"stdout": "The container crashed", "stderr": "no such image"}
    assert (await poller.report(job["grading_job_id"], success=False, logs=logs)).is_success
    await next_job(poller)
    await leave(system, "p1")
    await next_job(await registered(system, "p2"))
    await system.ask("POST", "graders/p2/revoke", {"reason": "stolen"}, status=202)
    await system.capture.wait_for("grader.heartbeat", grader_id="p2", leaving=True)
    last = await registered(system, "p3")
    job = await next_job(last)
    assert (await last.report(job["grading_job_id"])).is_success
    await system.over(run_id)
    await leave(system, "p3")


async def leave(system: System, name: str) -> None:
    """Let a grader leave."""
    answer = await system.http.delete(f"/api/v2/graders/{name}", headers=CLUSTER)
    assert answer.status_code == 204, answer.text
    await system.capture.wait_for("grader.heartbeat", grader_id=name, leaving=True)


async def _report_as_ours(system: System) -> None:
    """Run stages that the original's graders do not know on a polling grader of our own, which reports more."""
    headers = {**CLUSTER, **OURS}
    about = {"hostname": "ours.example"}
    answer = await system.http.post("/api/v1/worker/ours?runtime=runsc", json=about, headers=headers)
    assert answer.is_success, answer.text
    await system.capture.wait_for("grader.heartbeat", grader_id="ours")
    trusted, untrusted = stage("exit", "0", results="r.json"), stage("exit", "0", untrusted=True)
    await system.client.register(COURSE, "mp3", students=[untrusted, trusted, trusted, untrusted])
    run_id = await system.client.submit(COURSE, "mp3", students=1)
    job = await next_job(Poller(system.http, "ours"))
    body = {
        "grading_job_id": job["grading_job_id"],
        "success": False,
        "results": [
            _entry(streams=[[1, 1], [2, 1]]),
            _entry(scores={"score": 1.0, "max_score": None, "document": '{"score": 1}'}),
            _entry(success=False, killed=True, killed_for="output", signal=9),
        ],
        "logs": {"stdout": "out\nerr\n", "stderr": ""},
        "verdict": {"outcome": "output_limit", "reason": "stage 3 of 4: wrote more output than its limit (12 bytes)"},
    }
    answer = await system.http.post("/api/v1/grading_job/ours", json=body, headers=headers)
    assert answer.is_success, answer.text
    await system.over(run_id)
    await leave(system, "ours")


def _entry(**more: Any) -> dict[str, Any]:
    data = {"ExitCode": 0, "OOMKilled": False, "StartedAt": "2026-03-01T12:00:00.5Z"}
    return {"data": data, "killed": False, "killed_for": None, "signal": None, "success": True, "usage": USAGE} | more


async def serve_socket(system: System, run_id: str) -> None:
    """Run the job that was published from the outbox on a WebSocket grader; the grader stays on record as such."""
    url = f"{system.url.replace('http', 'ws', 1).rstrip('/')}/api/v1/worker_ws/s1?pool={SPARE}"
    async with websockets.connect(url, additional_headers=CLUSTER) as socket:
        await socket.send(json.dumps({"type": "register", "args": {"hostname": "s1.example"}}))
        assert json.loads(await socket.recv()) == {"success": True}
        job = json.loads(await socket.recv())
        args = result(job["grading_job_id"])
        await socket.send(json.dumps({"type": "job_result", "args": args}))
        await system.over(run_id)
    await system.capture.wait_for("grader.heartbeat", grader_id="s1", leaving=True)


async def leave_unfinished(system: System) -> None:
    """Leave a run with one job running, one dispatched, and one in the backlog."""
    poller = await registered(system, "p4")
    run_id = await system.client.submit(COURSE, "mp1", students=3)
    await next_job(poller)
    await poller.post("heartbeat")
    await system.capture.wait_for("grader.heartbeat", grader_id="p4", count=2)
    await system.capture.wait_for("job.dispatched", run_id=run_id, count=2)
    await system.capture.wait_for("run.advanced", run_id=run_id)

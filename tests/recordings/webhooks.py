"""The scenario's submissions by webhook: a delivery for each state that one can end in."""

import json
from typing import Any

from harness import stage, until
from pushes import push, signature
from recordings.system import System

COURSE, SECRET = "cs241", "a-secret-of-this-hook"
GIT, FORMS, BROKEN, LATE = "git", "forms", "broken", "late"
ALICE = {"student": "alice", "env": {"NETID": "a1"}, "repository": "cs/alice"}
BOB = {"student": "bob", "env": {"NETID": "b2"}, "repository": "cs/bob"}
CAROL = {"student": "carol", "env": {}, "repository": "cs/carol"}
HOOKS: dict[str, dict[str, Any]] = {
    GIT: {"assignment": "mp1", "tags": ["v*"], "only_latest": True, "quota": {"submissions": 1, "seconds": 86400}},
    FORMS: {"assignment": "mp1", "format": "json", "env": ["N"]},
    BROKEN: {"assignment": "nowhere", "format": "json"},
    LATE: {"assignment": "hang", "only_latest": True},
}
STATUS = {"accepted": 202, "unmatched": 422, "refused": 422, "limited": 429}


async def deliver(system: System) -> None:
    """Set hooks and rosters, and send deliveries."""
    await system.client.register(COURSE, "mp1", students=[stage("env", "BROADWAY_COMMIT")])
    await system.client.register(COURSE, "hang", students=[stage("hang", timeout=600)])
    for name, config in HOOKS.items():
        await system.ask("PUT", f"courses/{COURSE}/hooks/{name}", {**config, "secrets": [SECRET, f"{SECRET}-2"]})
    await _put_roster(system, "mp1", ALICE, BOB)
    await _put_roster(system, "hang", BOB)
    await _push_as_git_does(system)
    await _submit_forms(system)
    await _supersede(system)


async def _push_as_git_does(system: System) -> None:
    await _over(system, await _send(system, GIT, "d1", push("alice", commit(1)), becomes="accepted"))
    await _send(system, GIT, "d2", push("alice", commit(1)), becomes="duplicate")
    await _send(system, GIT, "d2", push("alice", commit(1)), becomes="duplicate")
    await _send(system, GIT, "d3", push("alice", commit(2), "refs/heads/dev"), becomes="ignored")
    await _send(system, GIT, "d4", {"action": "opened"}, becomes="ignored", event="issues")
    tagged = push("alice", commit(3), "refs/tags/v1", head_commit={"id": commit(4)})
    await _send(system, GIT, "d5", tagged, becomes="limited")
    early = await _send(system, GIT, "d7", push("carol", commit(6)), becomes="unmatched")
    await _put_roster(system, "mp1", ALICE, BOB, CAROL)
    await _over(system, await _send(system, GIT, "d8", push("carol", commit(7)), becomes="accepted"))
    await system.ask("POST", f"courses/{COURSE}/hooks/{GIT}/deliveries/{early['_id']}/redeliver")
    await _decided(system, "d7", becomes="superseded")


async def _submit_forms(system: System) -> None:
    artifact = {"artifact_url": "https://files.example/1.zip", "sha256": "ab" * 32}
    form = {"group": "bob", "idempotency_key": "form-1", "ref": "final", "env": {"N": 1.5}, **artifact}
    await _over(system, await _send(system, FORMS, "bob/form-1", form, becomes="accepted"))
    refused = {"student": "bob", "idempotency_key": "form-2"}
    await _send(system, BROKEN, "bob/form-2", refused, becomes="refused")


async def _supersede(system: System) -> None:
    """Submit twice while no grader takes jobs: the first is superseded, the second is cancelled once it runs."""
    capture = system.capture
    await system.ask("POST", "graders/host1/pause", status=202)
    await capture.wait_for("grader.heartbeat", grader_id="host1", order=7)
    first = await _send(system, LATE, "d9", push("bob", commit(8)), becomes="accepted")
    await capture.wait_for("job.dispatched", run_id=first["run_id"])
    second = await _send(system, LATE, "d10", push("bob", commit(9)), becomes="accepted")
    await system.over(first["run_id"], round_=2)
    await capture.wait_for("job.dispatched", run_id=second["run_id"])
    await system.ask("POST", "graders/host1/resume", status=202)
    await capture.wait_for("grader.heartbeat", grader_id="host1", order=8)
    await capture.wait_for("job.cancel", run_id=first["run_id"])  # a grader has taken the dispatched job
    job = await system.runs(second["run_id"])
    await system.ask("POST", f"courses/{COURSE}/jobs/{job['job_id']}/cancel")
    await _over(system, second)


def commit(number: int) -> str:
    return f"{number:040x}"


def signed(body: dict[str, Any], delivery: str, event: str = "push") -> tuple[bytes, dict[str, str]]:
    """Return a delivery's bytes and headers."""
    raw = json.dumps(body).encode()
    signature_of = signature(raw, SECRET)
    return raw, {"X-GitHub-Event": event, "X-GitHub-Delivery": delivery, "X-Hub-Signature-256": signature_of}


async def _put_roster(system: System, assignment: str, *students: dict[str, Any]) -> None:
    await system.ask("PUT", f"courses/{COURSE}/assignments/{assignment}/roster", {"students": students})


async def _over(system: System, delivery: dict[str, Any]) -> None:
    await system.over(delivery["run_id"])


async def _send(
    system: System, hook: str, delivery: str, body: dict[str, Any], *, becomes: str, event: str = "push"
) -> dict[str, Any]:
    """Send a signed delivery, wait for its decision, and return the stored delivery."""
    raw, headers = signed(body, delivery, event)
    answer = await system.http.post(f"/api/v2/courses/{COURSE}/hooks/{hook}", content=raw, headers=headers)
    assert answer.status_code in (202, STATUS.get(becomes, 200)), answer.text
    return await _decided(system, delivery, becomes=becomes)


async def _decided(system: System, delivery: str, *, becomes: str) -> dict[str, Any]:
    async def is_decided() -> dict[str, Any] | None:
        found = await system.find("hook_delivery", delivery_id=delivery)
        return found if found["state"] != "received" and not found["due_at"] else None

    decided: dict[str, Any] = await until(is_decided)
    assert decided["state"] == becomes, decided
    return decided

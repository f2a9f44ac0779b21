"""The scenario's grades: a policy with exceptions, a grade book, regrades, callbacks about them, and sign-ins."""

import json
from typing import Any

import httpx2
from callback_world import Clock
from harness import stage, token_of
from recordings.system import REFUSED, TRACE, System, settings_for
from visitors import OWN

from broadway.mongo.store import Store
from broadway.notifier.serve import notifier_of

COURSE, ASSIGNMENT = "cs411", "lab"
LAB = f"courses/{COURSE}/assignments/{ASSIGNMENT}"
CALLBACKS = f"courses/{COURSE}/callbacks"
# Times so far away that the answers about them stay the same.
POLICY: dict[str, Any] = {
    "zone": "America/Chicago",
    "deadline": {
        "opens": "2020-01-01T00:00",
        "due": "2099-05-01T23:59",
        "closes": "2099-06-01T23:59",
        "grace_seconds": 300,
        "credit": [{"until": "2099-04-01T12:00", "percent": 110}, {"until": "2099-06-01T23:59", "percent": 50}],
    },
    "late_days": {"per_assignment": 2, "per_course": 5, "spend": "claimed"},
    "attempts": {"total": 5, "past_limit": "penalty", "penalty_percent": 12.5},
    "groups": {"max": 3},
    "counts": "chosen",
}
ROSTER: list[dict[str, Any]] = [
    {"student": "alice", "labels": ["section-1", "band"], "env": {"NETID": "a1"}},
    {"student": "team-1", "members": ["bob", "carol"], "labels": ["section-2"]},
    {"student": "dave"},
]


async def register_callbacks(system: System) -> None:
    """Register endpoints long before the course's first job ends: services learn of new ones within a second."""
    lms = {"name": "lms", "url": f"http://127.0.0.1:{REFUSED}/hook", "description": "grades"}
    await system.ask("POST", CALLBACKS, {**lms, "types": ["grades.published", "regrade.ready"]}, status=201)
    await system.ask("POST", f"{CALLBACKS}/lms/rotate", {"hours": 24})
    jobs = {
        "url": f"http://127.0.0.1:{REFUSED}/jobs",
        "types": ["job.finished", "run.finished"],
        "format": "cloudevents",
    }
    await system.ask("POST", CALLBACKS, {"name": "jobs", **jobs}, status=201)
    await system.ask("PUT", f"{CALLBACKS}/jobs", {**jobs, "enabled": False})


async def grade(system: System) -> None:
    """Take submissions under a policy with all kinds of exceptions, and publish their grades; then regrade them."""
    await _configure(system, 2)
    await system.ask("PUT", f"{LAB}/settings", {"points": 10, "policy": POLICY})
    await system.ask("PUT", f"{LAB}/roster", {"students": ROSTER})
    for student, number in (("alice", 1), ("alice", 2), ("team-1", 1)):
        files = {"main.c": f"int main(void) {{ return {number}; }}".encode()}
        made = await system.hand_in(COURSE, ASSIGNMENT, student, files, key=f"{student} {number}")
        await system.over(made["run_id"])
        if (student, number) == ("alice", 1):
            await system.ask("PUT", f"{LAB}/choice?student=alice", {"submission": made["id"]})
    await _make_exceptions(system)
    await _adjust_and_publish(system)
    await _regrade(system)
    await _sign_in(system)


async def end(system: System) -> None:
    """Wait until a discarded regrade is cleaned up, and send callbacks, which an endpoint refuses."""
    await system.find("regrade", state="discarded", clean_at=None)
    settings = settings_for(system.place)
    clock = Clock()
    clock.forward(minutes=1)
    names = settings.mongodb
    async with Store.connect(system.place.mongodb_dsn, primary=names.primary, logs=names.logs) as store:
        await notifier_of(settings, store, clock=clock).step()
    await system.ask("POST", f"{CALLBACKS}/lms/ping", status=202)


async def _configure(system: System, score: int) -> None:
    """Put the assignment, whose test gives some of four points."""
    report = {"tests": [{"name": "runs", "score": score, "max_score": 4, "visibility": "visible"}]}
    results = {"format": "gradescope", "path": "results.json"}
    judge = stage("write", "results.json", json.dumps(report), results=results)
    await system.ask("PUT", LAB, {"student_pipeline": [judge]})


async def _make_exceptions(system: System) -> None:
    orders: list[dict[str, Any]] = [
        {"target": "label", "name": "section-2", "add_days": 2, "add_minutes": 30, "reason": "snow"},
        {"target": "student", "name": "alice", "due": "2099-05-03T23:59", "closes": "2099-06-03T23:59"},
        {"target": "group", "name": "team-1", "add_days": 1},
    ]
    for order in orders:
        await system.ask("POST", f"{LAB}/extensions", order, status=201)
    await system.ask("DELETE", f"{LAB}/extensions?target=group&name=team-1&reason=mistake")
    await system.ask("PUT", f"{LAB}/late-days?student=bob", {"days": 1})


async def _adjust_and_publish(system: System) -> None:
    await system.ask("POST", f"{LAB}/grades/publish", {"based_on": 0, "note": "Have a look."})
    items: list[dict[str, Any]] = [
        {"student": "alice", "points": "-0.5", "reason": "style"},
        {"student": "bob", "kind": "final", "points": "9", "reason": "oral exam"},
        {"student": "dave", "kind": "excused", "reason": "ill"},
        {"student": "carol", "points": "1", "reason": "a mistake"},
    ]
    adjusted = {"Idempotency-Key": "adjusted"}
    made = await system.ask("POST", f"{LAB}/adjustments", {"items": items}, status=201, **adjusted)
    await system.ask("DELETE", f"{LAB}/adjustments/{made['items'][-1]['id']}?reason=withdrawn")
    published = {"based_on": 1, "reason": "adjusted", "note": "With adjustments."}
    await system.ask("POST", f"{LAB}/grades/publish", published, **{"Idempotency-Key": "published"})
    await system.ask("POST", f"{LAB}/grades/undo", {"based_on": 2, "to": 1, "reason": "too early"})
    await system.ask("POST", f"{LAB}/grades/publish", {"based_on": 3})


async def _regrade(system: System) -> None:
    """Regrade with another config thrice: publish one regrade, leave one ready, and discard one."""
    await _configure(system, 3)
    orders: dict[str, dict[str, Any]] = {
        "publish": {"select": "all", "control_percent": 50, "reason": "a test was wrong"},
        "ready": {"select": "counting"},
        "discard": {"select": "latest"},
    }
    ids: dict[str, str] = {}
    for key, order in orders.items():
        made = await system.ask("POST", f"{LAB}/regrades", order, status=201, **{"Idempotency-Key": key})
        ids[key] = made["id"]
    for each in ids.values():
        await system.find("regrade", _id=each, state="ready")
    published = {"publish": "raise", "note": "A test was wrong."}
    path = f"courses/{COURSE}/regrades"
    await system.ask("POST", f"{path}/{ids['publish']}/publish", published, **{"Idempotency-Key": "published"})
    await system.ask("POST", f"{path}/{ids['discard']}/discard")


async def _sign_in(system: System) -> None:
    """Sign staff in to the pages and out again, and a student in by a personal link; hand out a student's token."""
    links = await system.ask("POST", f"{LAB}/student-links", {"expires_in_days": 100})
    for path, form in (("/ui/sign-in", {"token": token_of(COURSE)}), (f"/s/{links['items'][0]['token']}", {})):
        async with httpx2.AsyncClient(base_url=system.url, headers=OWN | TRACE) as http:
            answer = await http.post(path, data=form)
            assert answer.status_code == 303, answer.text
            if form:
                assert (await http.post("/ui/sign-out")).status_code == 303
    await system.ask("POST", f"courses/{COURSE}/student-tokens", {"student": "alice"}, status=201)

"""v1 and v2 answer reads of recorded documents as before, and clients can continue from their last request."""

import json
from typing import Any

import pytest
from harness import token_of
from pollers import Poller
from pushes import push
from recordings import scenario, webhooks
from recordings.record import Served
from recordings.recording import Recording, is_kept

PROSE = {"summary", "description"}


async def test_recorded_documents_are_answered_with_the_same_bytes(recording: Recording, restored: Served) -> None:
    now = {(answer["path"], answer["token"]): answer for answer in restored.answers}
    for then in recording.answers:
        answer = now[then["path"], then["token"]]
        if recording.is_latest or then["path"].startswith("/api/v1/"):
            assert answer == then
        else:
            assert is_kept(_parsed(then), _parsed(answer)), then["path"]


def _parsed(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "body": json.loads(answer["body"])}


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}], "d": 3}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": None}, {}, False),
        ({"a": 1}, {"a": 1.0}, False),
        ([1, 2], [1, 2, 3], False),
    ],
)
def test_answers_may_contain_more_than_those_of_earlier_recordings(then: Any, now: Any, expected: bool) -> None:
    assert is_kept(then, now) is expected


async def test_a_repeated_submission_is_the_recorded_run(recording: Recording, restored: Served) -> None:
    headers = {"Authorization": f"Bearer {token_of(scenario.COURSE)}", "Idempotency-Key": "first-night"}
    path = f"/api/v2/courses/{scenario.COURSE}/assignments/mp2/runs"
    again = await restored.client.http.post(path, json={"students": "all"}, headers=headers)
    assert again.status_code == 201, again.text
    assert any(answer["path"].endswith(f"/runs/{again.json()['id']}") for answer in recording.answers)
    other = await restored.client.http.post(path, json={"students": ["bob"]}, headers=headers)
    assert other.status_code == 422


async def test_a_repeated_delivery_is_the_recorded_one(restored: Served) -> None:
    path = f"/api/v2/courses/{webhooks.COURSE}/hooks/{webhooks.GIT}"
    body, headers = webhooks.signed(push("alice", webhooks.commit(1)), "d1")
    again = await restored.client.http.post(path, content=body, headers=headers)
    assert (again.status_code, again.json()["state"], again.json()["times"]) == (200, "accepted", 2)


async def test_a_grader_can_report_the_job_that_it_had_before(recording: Recording, restored: Served) -> None:
    grader = next(e["document"] for e in recording.documents if e["document"]["_id"] == "p4")
    poller = Poller(restored.client.http, "p4")
    assert (await poller.post("heartbeat")).is_success
    assert (await poller.report(grader["running_job_id"])).is_success
    assert (await poller.report(grader["running_job_id"])).status_code == 400


async def test_v2_is_described_as_before(restored: Served, latest: Recording) -> None:
    now, then = without_prose(restored.openapi), without_prose(latest.openapi)
    for part, described in then.items():
        assert now[part] == described, part
    assert now.keys() == then.keys()


def without_prose(value: Any) -> Any:
    """Remove summaries and descriptions that are texts; a property of such a name has a schema and stays."""
    if isinstance(value, list):
        return [without_prose(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: each for key, each in value.items() if not (key in PROSE and isinstance(each, str))}
    return {key: without_prose(each) for key, each in kept.items()}

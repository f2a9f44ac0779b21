"""v1 and v2 answer reads of recorded documents as before, and clients can continue from their last request."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import token_of
from pollers import Poller
from pushes import push
from recordings import scenario, webhooks
from recordings.conftest import MOST
from recordings.questions import kind
from recordings.record import Served
from recordings.recording import Recording, directories, is_kept

PROSE = {"summary", "description"}

_GRADER = "/api/v2/graders/{worker_id}"
_BY_OPERATORS = "graders join with tokens and secrets of their own; orders need the operators' token"
_IN_PAGES = "a run comes without its jobs, which have pages"
# Deliberate differences of v2 from its recorded description, each with its reason.
DIFFERENCES: list[tuple[tuple[str, ...], str]] = [
    (
        ("paths", "/api/v2/courses/{course}/jobs/{job_id}/rerun", "post", "requestBody"),
        "the body of a job's rerun, which was always empty, may ask for the current config",
    ),
    (("info", "version"), "every release has its own"),
    (("components", "schemas", "RunDetail", "properties", "jobs"), _IN_PAGES),
    (("components", "schemas", "RunDetail", "required"), _IN_PAGES),
    (("components", "securitySchemes", "clusterToken"), _BY_OPERATORS),
    *(
        (("paths", path, method, "security"), _BY_OPERATORS)
        for path, methods in {
            "/api/v2/graders": ["get"],
            _GRADER: ["get", "post", "delete"],
            **{f"{_GRADER}/{verb}": ["post"] for verb in ("pause", "resume", "drain", "slots", "revoke", "readmit")},
            "/api/v2/dead-letters": ["get"],
            "/api/v2/dead-letters/{letter}": ["get", "delete"],
        }.items()
        for method in methods
    ),
]


def asked() -> list[Any]:
    """Return the recordings about which all is asked: the first and the latest; others are long."""
    first, *between, latest = directories()
    return [
        pytest.param(first, id=first.name),
        *(pytest.param(each, id=each.name, marks=pytest.mark.long) for each in between),
        pytest.param(latest, id=latest.name),
    ]


@pytest.fixture(scope="module", params=asked())
def recording(request: pytest.FixtureRequest) -> Recording:
    directory: Path = request.param
    return Recording.load(directory)


async def test_recorded_documents_are_answered_with_the_same_bytes(recording: Recording, restored: Served) -> None:
    recorded = {(answer["path"], answer["token"]): answer for answer in recording.answers}
    now = {(answer["path"], answer["token"]): answer for answer in restored.answers}
    asked = recorded.keys() & now.keys()
    assert {kind(path) for path, _ in recorded} == {kind(path) for path, _ in asked}
    assert MOST or asked == recorded.keys()
    for each in asked:
        then, answer = recorded[each], now[each]
        if then["path"].startswith("/api/v1/") or (recording.is_latest and not _is_timed(then)):
            assert answer == then
        else:
            assert is_kept(_parsed(then), _parsed(answer)), then["path"]


def _parsed(answer: dict[str, Any]) -> dict[str, Any]:
    try:
        body = json.loads(answer["body"])
    except ValueError:  # a file
        return answer
    if _is_run(answer):
        body.pop("jobs", None)  # earlier versions answered with all jobs of a run, which have pages
    if _is_standing(answer) and answer["status"] == 200:
        for standing in body.get("items", [body]):
            del standing["now"], standing["attempts"]["next"]  # the present time, since attempts are left
    if _is_job(answer) and body.get("queue"):
        del body["queue"]["wait"], body["queue"]["text"]  # they follow from the jobs of the last six hours
    return {**answer, "body": body}


def _is_timed(answer: dict[str, Any]) -> bool:
    """Return whether parts of an answer are not compared: those that follow from the present time, and a run's jobs."""
    return _is_run(answer) or _is_standing(answer) or _is_job(answer)


def _is_job(answer: dict[str, Any]) -> bool:
    return re.fullmatch(r"/api/v2/courses/[^/]+/jobs/[0-9a-f]{24}", answer["path"]) is not None


def _is_standing(answer: dict[str, Any]) -> bool:
    return re.fullmatch(r"/api/v2/courses/[^/]+/students/[^/]+/assignments(/[^/]+)?", answer["path"]) is not None


def _is_run(answer: dict[str, Any]) -> bool:
    return re.fullmatch(r"/api/v2/courses/[^/]+/runs/[0-9a-f]{24}", answer["path"]) is not None


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


async def test_v2_still_has_everything_that_was_described(restored: Served, latest: Recording) -> None:
    now, then = without_prose(restored.openapi), without_prose(latest.openapi)
    for where, _ in DIFFERENCES:
        for described in (now, then):
            removed(described, where)
    assert list(lost(then, now)) == []


def test_losses_of_a_description_are_found() -> None:
    then = {
        "paths": {"/a": {"get": {"parameters": [{"name": "x"}], "responses": {"200": {}}}}},
        "components": {"schemas": {"A": {"properties": {"b": {"type": "string"}}, "required": ["b"]}}},
    }
    grown = json.loads(json.dumps(then))
    grown["paths"]["/b"] = {}
    grown["paths"]["/a"]["get"]["parameters"].append({"name": "y"})
    grown["components"]["schemas"]["A"]["properties"]["c"] = {}
    assert list(lost(then, grown)) == []
    for path, value in (
        ("paths./a.get.parameters", []),
        ("paths./a.get.responses", {}),
        ("components.schemas.A.properties.b.type", "integer"),
        ("components.schemas.A.required", []),
    ):
        changed = json.loads(json.dumps(grown))
        *above, last = path.split(".")
        part = changed
        for key in above:
            part = part[key]
        part[last] = value
        assert list(lost(then, changed)) != [], path
    for demanding in ({"name": "y", "required": True}, {"name": "y", "in": "query", "required": True}):
        changed = json.loads(json.dumps(grown))
        changed["paths"]["/a"]["get"]["parameters"][1] = demanding
        assert list(lost(then, changed)) != []


def lost(then: Any, now: Any, where: str = "") -> Iterator[str]:
    """Yield the places of a description that are missing or different in a later one, and of new demands."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key, value in then.items():
            if key not in now:
                yield f"{where}.{key}"
            else:
                yield from lost(value, now[key], f"{where}.{key}")
    elif isinstance(then, list) and isinstance(now, list):
        rest = list(now)
        for value in then:
            kept = next((each for each in rest if not list(lost(value, each))), None)
            if kept is None:
                yield f"{where}: {value}"
            else:
                rest.remove(kept)
        yield from (f"{where}: {each}" for each in rest if isinstance(each, dict) and each.get("required") is True)
    elif then != now:
        yield f"{where}: {then} is {now}"


def removed(described: dict[str, Any], where: tuple[str, ...]) -> None:
    """Remove a part of a description, if it is there."""
    *above, last = where
    part: Any = described
    for key in above:
        part = part.get(key, {})
    part.pop(last, None)


def without_prose(value: Any) -> Any:
    """Remove summaries and descriptions that are texts; a property of such a name has a schema and stays."""
    if isinstance(value, list):
        return [without_prose(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: each for key, each in value.items() if not (key in PROSE and isinstance(each, str))}
    return {key: without_prose(each) for key, each in kept.items()}

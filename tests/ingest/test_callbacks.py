"""Endpoints for callbacks over the API: secrets, pings, deliveries, replays, and the rights of courses."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from callback_world import World
from harness import Client, token_of
from pushes import push, signature
from receivers import Receiver

from broadway.domain.callback import CallbackEvent
from broadway.mongo.store import Store

URL = "https://lms.example.org/broadway"
SECRET = "a-secret-of-this-hook"


@dataclass
class Staff:
    """The staff of a course."""

    client: Client
    course: str

    async def ask(self, method: str, path: str = "", body: Any = None) -> httpx2.Response:
        url = f"/api/v2/courses/{self.course}/callbacks{path}"
        headers = {"Authorization": f"Bearer {token_of(self.course)}"}
        return await self.client.http.request(method, url, json=body, headers=headers)

    async def add(self, name: str = "lms", **settings: Any) -> dict[str, Any]:
        answer = await self.ask("POST", body={"name": name, "url": URL, **settings})
        assert answer.status_code == 201, answer.text
        assert answer.headers["location"] == f"/api/v2/courses/{self.course}/callbacks/{name}"
        assert answer.headers["cache-control"] == "no-store"
        return answer.json()


@pytest.fixture
def staff(client: Client, course: str) -> Staff:
    return Staff(client, course)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver.open() as opened:
        yield opened


@pytest.fixture
async def world(store: Store, course: str) -> AsyncIterator[World]:
    made = World(store, course)
    yield made
    for endpoint in await store.callbacks.endpoints.of_course(course):
        await store.callbacks.endpoints.delete(endpoint)
        await store.callbacks.deliveries.delete_of(endpoint.id)


async def test_a_secret_is_shown_once_and_is_not_in_the_audit_log(staff: Staff, world: World) -> None:
    made = await staff.add(types=["run.finished"], description="for the LMS")
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert (await staff.ask("GET", "/lms")).json() == made
    assert (await staff.ask("GET")).json() == {"items": [made], "next": None}
    assert secret not in (await staff.ask("GET")).text
    rotated = (await staff.ask("POST", "/lms/rotate", {"hours": 2})).json()
    stored = await world.store.callbacks.endpoints.get(staff.course, "lms")
    assert stored is not None
    assert stored.secrets(datetime.now(UTC)) == [rotated["secret"], secret]
    assert rotated["previous_secret_until"] is not None
    records = await world.store.audit.latest(course=staff.course, limit=10)
    assert {record.operation for record in records} == {"callbacks_add", "callbacks_rotate"}
    assert not any(each in str(record) for record in records for each in (secret, rotated["secret"]))


async def test_a_name_is_taken_once_and_a_course_has_so_many_endpoints(staff: Staff, world: World) -> None:
    await staff.add("e0")
    again = await staff.ask("POST", body={"name": "e0", "url": URL})
    assert (again.status_code, "rotate its secret" in again.json()["detail"]) == (409, True)
    for number in range(1, 20):
        await staff.add(f"e{number}")
    refused = await staff.ask("POST", body={"name": "e20", "url": URL})
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        f"callback: {world.course} has 20 endpoints, 20 are allowed",
    )


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"url": "http://lms.example.org/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://u:p@lms.example.org/"}, "url"),
        ({"url": "https://lms.example.org:8443/"}, "url"),
        ({"url": "x" * 2001}, "url"),
        ({"url": URL, "types": ["grade.lost"]}, "types.0"),
        ({"url": URL, "format": "xml"}, "format"),
        ({"url": URL, "description": "x" * 201}, "description"),
        ({"url": URL, "name": "a b"}, "name"),
        ({"url": URL, "secret": "mine"}, "secret"),
    ],
    ids=["http", "private", "login", "port", "long", "type", "format", "description", "name", "secret"],
)
async def test_a_wrong_setting_is_refused_by_its_name(staff: Staff, body: dict[str, Any], named: str) -> None:
    answer = await staff.ask("POST", body={"name": "lms", **body})
    assert (answer.status_code, answer.json()["detail"].startswith(named)) == (400, True), answer.text
    assert (await staff.ask("GET")).json()["items"] == []


async def test_settings_change_and_the_secret_stays(staff: Staff, world: World) -> None:
    secret = (await staff.add())["secret"]
    changed = await staff.ask("PUT", "/lms", {"url": URL + "/2", "format": "cloudevents", "enabled": False})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["enabled"], changed.json()["disabled_reason"]) == (False, "disabled by the course staff")
    for path, body in (("ping", {}), ("replay", {"since": datetime.now(UTC).isoformat()})):
        assert (await staff.ask("POST", f"/lms/{path}", body)).status_code == 409
    await staff.ask("PUT", "/lms", {"url": URL})
    stored = await world.store.callbacks.endpoints.get(staff.course, "lms")
    assert stored is not None
    assert (stored.is_enabled, stored.secret, stored.url) == (True, secret, URL)
    assert (await staff.ask("DELETE", "/lms")).status_code == 204
    assert (await staff.ask("GET", "/lms")).status_code == 404


async def test_a_ping_reaches_its_endpoint_only_and_is_listed(staff: Staff, world: World, receiver: Receiver) -> None:
    first, second = await world.endpoint(receiver.port, "first"), await world.endpoint(receiver.port, "second")
    answer = await staff.ask("POST", "/first/ping")
    assert answer.status_code == 202, answer.text
    world.clock.catch_up()
    await world.notifier(receiver.port).step()
    assert receiver.ids == [answer.json()["event"]]
    receiver.requests[0].verified(first.secret)
    (listed,) = (await staff.ask("GET", "/first/deliveries")).json()["items"]
    assert (listed["state"], listed["status"], listed["type"]) == ("delivered", 204, "ping")
    assert (await staff.ask("GET", "/second/deliveries")).json()["items"] == []
    detail = (await staff.ask("GET", f"/first/deliveries/{listed['id']}")).json()
    assert detail["data"] == {"callback": "first"}
    assert [attempt["status"] for attempt in detail["attempts"]] == [204]
    assert (await staff.ask("GET", f"/second/deliveries/{listed['id']}")).status_code == 404
    assert await world.deliveries(second) == []


async def test_one_delivery_and_all_failed_ones_are_sent_again(staff: Staff, world: World, receiver: Receiver) -> None:
    await world.endpoint(receiver.port)
    since = world.clock() - timedelta(seconds=1)
    receiver.status = 410
    events = [await world.emit() for _ in range(3)]
    await world.notifier(receiver.port).step()
    present = (await staff.ask("GET", "/lms")).json()
    assert present["disabled_reason"] == "it answered 410: it is gone"
    records = await staff.client.http.get(
        f"/api/v2/courses/{staff.course}/audit?operation=callbacks_disabled",
        headers={"Authorization": f"Bearer {token_of(staff.course)}"},
    )
    assert [record["kind"] for record in records.json()["items"]] == ["service"]
    endpoint = await world.store.callbacks.endpoints.get(staff.course, "lms")
    assert endpoint is not None
    await world.store.callbacks.endpoints.put_settings(endpoint.enable())
    receiver.status = 200
    receiver.requests.clear()
    page = (await staff.ask("GET", "/lms/deliveries?limit=2")).json()
    rest = (await staff.ask("GET", f"/lms/deliveries?limit=2&after={page['next']}")).json()
    listed = [each["id"] for each in (*page["items"], *rest["items"])]
    assert (len(set(listed)), rest["next"]) == (3, None)
    one = await staff.ask("POST", f"/lms/deliveries/{listed[0]}/replay")
    assert (one.status_code, one.json()["state"], one.json()["attempt"]) == (202, "pending", 0)
    world.clock.catch_up()
    await world.notifier(receiver.port).step()
    assert len(receiver.requests) == 1
    answers = [await staff.ask("POST", "/lms/replay", {"since": since.isoformat()}) for _ in range(2)]
    assert [answer.json() for answer in answers] == [{"deliveries": 2}, {"deliveries": 0}]
    world.clock.catch_up()
    await world.notifier(receiver.port).step()
    assert sorted(receiver.ids) == sorted(event.id for event in events)
    long_ago = (datetime.now(UTC) - timedelta(days=31)).isoformat()
    assert (await staff.ask("POST", "/lms/replay", {"since": long_ago})).status_code == 409


async def test_a_course_does_not_see_another_ones_endpoints(
    client: Client, staff: Staff, other_course: str, world: World, receiver: Receiver
) -> None:
    await world.endpoint(receiver.port)
    await world.emit()
    await world.notifier(receiver.port).step()
    (listed,) = (await staff.ask("GET", "/lms/deliveries")).json()["items"]
    other = Staff(client, other_course)
    for method, path in (
        *(("GET", "/lms"), ("PUT", "/lms"), ("DELETE", "/lms"), ("POST", "/lms/rotate"), ("POST", "/lms/ping")),
        *(("GET", "/lms/deliveries"), ("GET", f"/lms/deliveries/{listed['id']}")),
        ("POST", f"/lms/deliveries/{listed['id']}/replay"),
    ):
        answer = await other.ask(method, path, {"url": URL} if method == "PUT" else None)
        assert answer.status_code == 404, path
    assert (await other.ask("GET")).json()["items"] == []


async def test_a_delivery_that_matches_no_student_is_reported(staff: Staff, world: World, receiver: Receiver) -> None:
    await world.endpoint(receiver.port, types=())
    client, headers = staff.client, {"Authorization": f"Bearer {token_of(staff.course)}"}
    hook = f"/api/v2/courses/{staff.course}/hooks/git"
    config = {"assignment": "mp1", "secrets": [SECRET]}
    assert (await client.http.put(hook, json=config, headers=headers)).status_code == 200
    body = json.dumps(push("mallory")).encode()
    signed = {
        "X-Hub-Signature-256": signature(body, SECRET),
        "X-GitHub-Delivery": "d1",
        "X-GitHub-Event": "push",
    }
    answer = await client.http.post(hook, content=body, headers={**signed, "Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    world.clock.catch_up()
    await world.notifier(receiver.port).step()
    (request,) = receiver.requests
    assert b'"type":"hook.unmatched"' in request.body
    (delivery,) = (await client.http.get(f"{hook}/deliveries", headers=headers)).json()["items"]
    event = CallbackEvent.hook_unmatched(staff.course, "git", delivery["id"], reason="", at=world.clock())
    assert request.id == event.id

"""`broadway callback`, as staff types it: an endpoint from its registration to its removal."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from callback_world import World
from harness import Client, Command, broadway, token_of
from receivers import Receiver

from broadway.mongo.store import Store
from broadway.settings.programs import IngestSettings

SECRETS = "the secret, which is shown only once:\n"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver.open() as opened:
        yield opened


@pytest.fixture
async def world(store: Store, course: str, client: Client) -> AsyncIterator[World]:
    assert await client.is_ready()
    made = World(store, course)
    yield made
    for endpoint in await store.callbacks.endpoints.of_course(course):
        await store.callbacks.endpoints.delete(endpoint)
        await store.callbacks.deliveries.delete_of(endpoint.id)


class Staff:
    """The staff of a course, whose commands have no terminal."""

    def __init__(self, settings: IngestSettings, course: str) -> None:
        self._environment = {
            "BROADWAY_SERVER": f"http://127.0.0.1:{settings.bind_port}",
            "BROADWAY_COURSE": course,
            "BROADWAY_COURSE_TOKEN": token_of(course),
        }

    async def types(self, *arguments: str) -> Command:
        return await broadway("callback", *arguments, **self._environment)

    async def reads(self, *arguments: str) -> object:
        done = await self.types(*arguments, "--json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def staff(ingest_settings: IngestSettings, course: str) -> Staff:
    return Staff(ingest_settings, course)


async def test_an_endpoint_is_registered_changed_and_removed(staff: Staff, world: World) -> None:
    url = "https://lms.example.org/broadway"
    added = await staff.types("add", "lms", url, "--type", "run.finished", "--format", "cloudevents")
    assert (added.exit_code, added.stderr) == (0, SECRETS)
    stored = await world.store.callbacks.endpoints.get(world.course, "lms")
    assert stored is not None
    assert added.stdout == f"{stored.secret}\n"
    shown = await staff.reads("show", "lms")
    assert isinstance(shown, dict)
    assert (shown["url"], shown["types"], shown["format"]) == (url, ["run.finished"], "cloudevents")
    rotated = await staff.types("rotate", "lms", "--hours", "0")
    assert rotated.stdout != added.stdout
    assert (await staff.types("set", "lms", "--disable")).exit_code == 0
    (listed,) = (await staff.types("list")).stdout.splitlines()[1:]
    assert listed.split("\t") == [
        "lms",
        url,
        '["run.finished"]',
        "cloudevents",
        "False",
        "",
        "disabled by the course staff",
    ]
    again = await staff.types("add", "lms", url)
    assert (again.exit_code, "rotate its secret" in again.stderr) == (1, True)
    refused = await staff.types("add", "inside", "https://10.0.0.1/")
    assert (refused.exit_code, "not a public address" in refused.stderr) == (1, True)
    assert (await staff.types("set", "lms")).exit_code == 2
    assert (await staff.types("remove", "lms")).exit_code == 2  # it asks, and there is no terminal
    assert (await staff.types("remove", "lms", "--yes")).exit_code == 0
    assert await staff.reads("list") == []


async def test_deliveries_are_listed_and_sent_again(staff: Staff, world: World, receiver: Receiver) -> None:
    await world.endpoint(receiver.port)
    since = (world.clock() - timedelta(seconds=1)).isoformat()
    event = (await staff.types("ping", "lms")).stdout.strip()
    world.clock.catch_up()
    await world.notifier(receiver.port).step()
    assert receiver.ids == [event]
    (listed,) = await staff.reads("deliveries", "lms", "--state", "delivered")  # type: ignore[misc]
    assert (listed["event"], listed["status"]) == (event, 204)
    detail = await staff.reads("deliveries", "lms", listed["id"][:6])
    assert isinstance(detail, dict)
    assert detail["data"] == {"callback": "lms"}
    replayed = await staff.types("replay", "lms", listed["id"][:6])
    assert (replayed.exit_code, replayed.stdout) == (0, f"{listed['id'][:6]}\tpending\n")
    world.clock.catch_up()
    await world.notifier(receiver.port).step()
    assert receiver.ids == [event] * 2
    assert (await staff.types("replay", "lms", "--since", since)).stderr == "0 deliveries are sent again\n"
    assert (await staff.types("replay", "lms")).exit_code == 2

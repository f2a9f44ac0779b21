"""Hooks and callbacks with their deliveries, which staff repeat; and the actions of staff."""

import json
import re
from collections.abc import AsyncIterator
from secrets import token_hex

import pytest
from callback_world import World as Callbacks
from graded import World
from pushes import push, signature
from receivers import Receiver
from visitors import Visitor

SECRET = "a-secret-of-this-hook"


async def known(world: World, *students: str) -> None:
    """Give the roster these students with their repositories."""
    entries = [{"student": each, "repository": f"cs/{each}"} for each in students]
    answer = await world.ask("assignments/mp1/roster", "PUT", json={"students": entries})
    assert answer.status_code == 200, answer.text


async def test_a_push_that_fits_no_student_is_decided_again(world: World, staff: Visitor) -> None:
    course = f"/ui/c/{world.course}"
    assert "There is no hook" in await staff.text(f"{course}/connections")
    await known(world, "ada", "bob")
    hook = {"assignment": "mp1", "format": "github", "secrets": [SECRET]}
    made = await world.ask("hooks/git", "PUT", json=hook)
    assert made.status_code == 200, made.text
    assert "Nothing has arrived yet" in await staff.text(f"{course}/hooks/git")
    raw = json.dumps(push("eve")).encode()
    headers = {"X-Hub-Signature-256": signature(raw, SECRET), "X-GitHub-Delivery": token_hex(8)}
    await world.client.http.post(f"/api/v2/courses/{world.course}/hooks/git", content=raw, headers=headers)

    page = await staff.text(f"{course}/hooks/git?state=unmatched")
    assert "fits no student" in page
    assert "cs/eve" in page
    assert SECRET not in page
    assert "No delivery is in this state" in await staff.text(f"{course}/hooks/git?state=accepted")
    (again,) = re.findall(rf'action="({course}/hooks/git/\w+/again)"', page)
    await known(world, "ada", "eve")
    assert (await staff.post(again)).status_code == 303
    page = await staff.text(f"{course}/hooks/git")
    assert f"/ui/c/{world.course}/r/" in page
    assert again not in page
    assert (await staff.post(f"{course}/hooks/git/{'0' * 24}/again")).status_code == 404


@pytest.fixture
async def callbacks(world: World) -> AsyncIterator[Callbacks]:
    made = Callbacks(world.opened.store, world.course)
    yield made
    for endpoint in await made.store.callbacks.endpoints.of_course(world.course):
        await made.store.callbacks.endpoints.delete(endpoint)
        await made.store.callbacks.deliveries.delete_of(endpoint.id)


async def test_a_callback_is_tried_and_sent_again(world: World, staff: Visitor, callbacks: Callbacks) -> None:
    base = f"/ui/c/{world.course}/callbacks/lms"
    async with Receiver.open() as receiver:
        url = f"http://receiver.example:{receiver.port}/a-secret-path"
        endpoint = await callbacks.endpoint(receiver.port, url=url)
        listed = await staff.text(f"/ui/c/{world.course}/connections")
        assert ("receiver.example" in listed, "a-secret-path" in listed) == (True, False)
        assert "Nothing was sent yet" in await staff.text(base)
        assert (await staff.post(f"{base}/ping")).status_code == 303
        callbacks.clock.catch_up()
        await callbacks.notifier(receiver.port).step()
        page = await staff.text(base)
        assert "204" in page
        assert endpoint.secret not in page
        (again,) = re.findall(rf'action="({base}/\w+/again)"', page)
        assert (await staff.post(again)).status_code == 303
        callbacks.clock.catch_up()
        await callbacks.notifier(receiver.port).step()
        assert len(receiver.requests) == 2
    assert (await staff.get(f"/ui/c/{world.course}/callbacks/nothing")).status_code == 404


async def test_actions_of_pages_are_listed_with_their_names(world: World, staff: Visitor, ada: Visitor) -> None:
    run, audit = f"/ui/c/{world.course}/r/{world.run}", f"/ui/c/{world.course}/audit"
    assert (await staff.post(f"{run}/cancel", {"sure": "yes"})).status_code == 303
    page = await staff.text(f"{audit}?operation=ui.cancelRun")
    assert page.count("<strong>ui.cancelRun</strong>") == 1
    assert "No action matches" in await staff.text(f"{audit}?operation=nothing")
    assert (await staff.get(f"{audit}?after=nonsense")).status_code == 404
    assert (await ada.get(audit)).status_code == 404

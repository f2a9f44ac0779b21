"""Hooks and callbacks with their deliveries, which staff repeat; and the actions of staff."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from secrets import token_hex

import pytest
from callback_world import World as Callbacks
from graded import World
from harness import stage
from pushes import push, signature
from receivers import Receiver
from visitors import Visitor

from broadway.domain.access import SecretPrefix, new_secret
from broadway.domain.callback_delivery import CallbackState
from broadway.messages.http import IDENTITY_HEADER
from tests.ingest.ui.conftest import Visitors

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


async def test_the_latest_actions_are_shown_beside_their_object(world: World, staff: Visitor, ada: Visitor) -> None:
    course = f"/ui/c/{world.course}"
    entries = [{"student": "ada", "env": {"NETID": "ada"}}]
    for name in ("mp1", "mp1-extra"):
        await world.client.register(world.course, name, students=[stage("exit", "0")])
        changed = await world.ask(f"assignments/{name}/roster", "PUT", json={"students": entries})
        assert changed.status_code == 200
    assert (await staff.post(f"{course}/r/{world.run}/cancel", {"sure": "yes"})).status_code == 303
    assert (await staff.post(f"/ui/j/{world.jobs['ada']}/rerun")).status_code == 303
    places = {
        f"{course}/a/mp1": "hooks_put_roster",
        f"{course}/a/mp1/roster": "hooks_put_roster",
        f"{course}/r/{world.run}": "ui.cancelRun",
        f"/ui/j/{world.jobs['ada']}": "ui.rerunJob",
    }
    for page, operation in places.items():
        shown = (await staff.text(page)).partition('id="actions"')[2]
        assert f"<strong>{operation}</strong>" in shown, page
        address = re.search(r'href="([^"]+about=[^"]+)"', shown)
        assert address is not None
        listed = await staff.text(address[1])
        assert f"<strong>{operation}</strong>" in listed
        assert "mp1-extra" not in listed
    assert 'id="actions"' not in await ada.text(f"/ui/j/{world.jobs['ada']}")
    assert 'id="actions"' not in await staff.text(f"/ui/j/{world.jobs['ada']}?view=student")
    assert "Nothing has been changed" in await staff.text(f"{course}/a/mp1/grades")
    assert "No action matches" in await staff.text(f"{course}/audit?about=run:none")


async def test_operators_see_actions_on_graders_and_all_others(world: World, visit: Visitors) -> None:
    async with visit("operator-token") as operator:
        name = f"g-{token_hex(4)}"
        headers = {"Authorization": "Bearer cluster-token", IDENTITY_HEADER: new_secret(SecretPrefix.GRADER)}
        joined = await world.client.http.post(f"/api/v2/graders/{name}", json={"hostname": "h"}, headers=headers)
        assert joined.status_code == 200, joined.text
        assert (await operator.post(f"/ui/ops/graders/{name}/pause")).status_code == 303
        assert "<strong>ui.orderGrader</strong>" in (await operator.text("/ui/ops")).partition('id="actions"')[2]
        listed = await operator.text(f"/ui/ops/audit?about=grader:{name}")
        assert listed.count("<strong>ui.orderGrader</strong>") == 1
        assert (await operator.get("/ui/ops/audit?after=nonsense")).status_code == 404


async def test_all_failed_callbacks_are_sent_again_once(world: World, staff: Visitor, callbacks: Callbacks) -> None:
    base = f"/ui/c/{world.course}/callbacks/lms"
    async with Receiver.open() as receiver:
        url = f"http://receiver.example:{receiver.port}/x"
        endpoint = await callbacks.endpoint(receiver.port, url=url)
        for _ in range(3):
            assert (await staff.post(f"{base}/ping")).status_code == 303
        callbacks.clock.catch_up()
        await callbacks.notifier(receiver.port).step()
        found = await callbacks.store.callbacks.deliveries.latest(endpoint.id, before=None, limit=9)
        assert len(found) == 3
        for each in found:
            await world.opened.store.callbacks.deliveries.replay(replace(each, state=CallbackState.FAILED), of=each)
        for _ in range(2):
            done = await staff.post(f"{base}/replay", {"days": "30"})
            assert (done.status_code, done.headers["location"]) == (303, f"{base}?state=pending")
        again = await callbacks.store.callbacks.deliveries.latest(endpoint.id, before=None, limit=9)
        assert [each.state for each in again] == [CallbackState.PENDING] * 3
        for days in ("0", "31", "x", "-1"):
            assert (await staff.post(f"{base}/replay", {"days": days})).status_code == 422

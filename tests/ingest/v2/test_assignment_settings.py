"""The settings of assignments over HTTP: versions, conflicts, and the defaults."""

import asyncio
from typing import Any

import httpx2
from harness import Client, stage, token_of

PATH = "/assignments/mp1/settings"


async def ask(client: Client, course: str, path: str = PATH, method: str = "GET", **more: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token_of(course)}"} | more.pop("headers", {})
    return await client.http.request(method, f"/api/v2/courses/{course}{path}", headers=headers, **more)


async def test_an_assignment_begins_with_the_defaults(client: Client, course: str) -> None:
    assert (await ask(client, course)).status_code == 404
    assert (await ask(client, course, method="PUT", json={})).status_code == 404
    await client.register(course, "mp1", students=[stage()])

    answer = await ask(client, course)

    assert (answer.status_code, answer.headers["etag"]) == (200, '"0"')
    assert answer.json()["version"] == 0
    assert answer.json()["settings"]["points"] is None
    assert answer.json()["settings"]["files"]["max_bytes"] == 20 * 1024 * 1024


async def test_each_change_is_a_version_and_the_original_interface_keeps_them(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage()])

    first = await ask(client, course, method="PUT", json={"points": 10})
    same = await ask(client, course, method="PUT", json={"points": 10})
    second = await ask(client, course, method="PUT", json={"points": 20, "files": {"required": ["main.c"]}})
    await client.register(course, "mp1", students=[stage("exit", "1")])

    assert [each.json()["version"] for each in (first, same, second)] == [1, 1, 2]
    present = (await ask(client, course)).json()
    assert (present["version"], present["settings"]["points"]) == (2, "20")
    assert present["by"] == second.json()["by"]
    newest = (await ask(client, course, f"{PATH}/versions?limit=1")).json()
    oldest = (await ask(client, course, f"{PATH}/versions?limit=1&after={newest['next']}")).json()
    assert [each["version"] for each in newest["items"] + oldest["items"]] == [2, 1]
    assert oldest["next"] is None
    assert (await ask(client, course, f"{PATH}/versions?after=x")).status_code == 400


async def test_a_change_of_a_version_that_has_gone_is_refused(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage()])
    await ask(client, course, method="PUT", json={"points": 1}, headers={"If-Match": '"0"'})

    late = await ask(client, course, method="PUT", json={"points": 2}, headers={"If-Match": '"0"'})
    unreadable = await ask(client, course, method="PUT", json={"points": 2}, headers={"If-Match": "0"})

    assert (late.status_code, late.json()["detail"]) == (412, "the settings have version 1, not 0")
    assert (unreadable.status_code, "If-Match" in unreadable.json()["detail"]) == (400, True)
    assert (await ask(client, course)).json()["settings"]["points"] == "1"


async def test_changes_at_the_same_time_are_all_kept_as_versions(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage()])

    answers = await asyncio.gather(
        *(ask(client, course, method="PUT", json={"points": number}) for number in range(1, 6))
    )

    assert sorted(each.json()["version"] for each in answers) == [1, 2, 3, 4, 5]


async def test_a_wrong_setting_is_refused_by_name(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage()])

    answer = await ask(client, course, method="PUT", json={"files": {"allowed": ["/etc/*"]}})

    assert (answer.status_code, answer.json()["detail"].split(":")[0]) == (400, "files.allowed.0")

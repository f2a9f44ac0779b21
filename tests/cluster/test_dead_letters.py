"""Operators see the messages that no service could handle, and discard them when the cause is repaired."""

import json
from typing import Any

import pytest
from harness import Cluster, Command, broadway

from broadway.ingest.v2.views.dead_letters import MAX_LETTER

TOKEN = {"Authorization": "Bearer operator-token"}


async def dead(cluster: Cluster, *arguments: str, token: str = "operator-token") -> Command:
    return await broadway("dead", *arguments, "--server", str(cluster.client.http.base_url), "--token", token)


@pytest.fixture
async def letters(cluster: Cluster) -> list[dict[str, Any]]:
    """Two dead letters, latest first; one of them was rejected twice."""
    put = cluster.opened.store.dead_letters.put
    for body in (b"\xff\0", b"\xff"):
        await put(message_id="m/1", subject="cs1/r/j1", queue="broadway.results", reason="no UTF-8", body=body)
    await put(message_id="m/1", subject="cs1/r/j2", queue="broadway.dispatcher", reason="too odd", body=b"x" * 70_000)
    answer = await cluster.client.http.get("/api/v2/dead-letters", headers=TOKEN)
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_dead_letters_are_listed_latest_first(letters: list[dict[str, Any]]) -> None:
    assert [(each["queue"], each["subject"], each["reason"], each["count"]) for each in letters] == [
        ("broadway.dispatcher", "cs1/r/j2", "too odd", 1),
        ("broadway.results", "cs1/r/j1", "no UTF-8", 2),
    ]
    assert letters[1]["body"] == "\ufffd"
    assert len(letters[0]["body"]) == MAX_LETTER
    assert letters[1]["first_at"] < letters[1]["last_at"]


async def test_the_commands_list_show_and_discard(cluster: Cluster, letters: list[dict[str, Any]]) -> None:
    listed = await dead(cluster, "list")
    assert listed.exit_code == 0
    assert [line.split("\t")[0] for line in listed.stdout.splitlines()] == ["id", *(each["id"] for each in letters)]
    assert len(json.loads((await dead(cluster, "list", "--json", "--limit", "1")).stdout)) == 1

    shown = await dead(cluster, "show", letters[1]["id"], "--json")
    assert json.loads(shown.stdout) == letters[1]

    assert (await dead(cluster, "discard", "--yes", letters[1]["id"])).stdout == "1 dead letters discarded\n"
    gone = await dead(cluster, "show", letters[1]["id"])
    assert gone.exit_code == 1
    assert "no dead letter of that id is kept" in gone.stderr
    assert (await dead(cluster, "discard", "--all", "--yes")).stdout == "1 dead letters discarded\n"
    assert (await dead(cluster, "list")).stdout.splitlines()[1:] == []


@pytest.mark.parametrize("arguments", [["discard"], ["discard", "--all", "x"]])
async def test_nothing_is_discarded_by_mistake(
    cluster: Cluster, letters: list[dict[str, Any]], arguments: list[str]
) -> None:
    refused = await dead(cluster, *arguments)
    assert refused.exit_code == 2
    assert "name dead letters, or say --all" in refused.stderr
    assert await cluster.opened.store.dead_letters.count() == len(letters)


@pytest.mark.parametrize("path", ["/api/v2/dead-letters", "/api/v2/dead-letters/x", "/api/v2/graders"])
async def test_a_courses_token_is_not_enough(cluster: Cluster, path: str) -> None:
    answer = await cluster.client.http.get(path, headers={"Authorization": "Bearer staff-241"})
    assert answer.status_code == 401
    assert (await dead(cluster, "list", token="staff-241")).exit_code == 4


async def test_an_unknown_dead_letter_is_not_found(cluster: Cluster) -> None:
    for method in ("GET", "DELETE"):
        answer = await cluster.client.http.request(method, "/api/v2/dead-letters/nope", headers=TOKEN)
        assert answer.status_code == 404
        assert answer.json()["detail"] == "no dead letter of that id is kept"
    wrong = await cluster.client.http.get("/api/v2/dead-letters?limit=0", headers=TOKEN)
    assert wrong.status_code == 400
    assert "limit" in wrong.json()["detail"]

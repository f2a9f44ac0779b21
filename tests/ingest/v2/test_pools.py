"""`GET /api/v2/pools` has what a scaler needs, over a real store; the token for metrics reads no more than that."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import pytest
from bson import ObjectId
from harness import METRICS_TOKEN, Client, broadway
from pymongo.asynchronous.database import AsyncDatabase
from ruamel.yaml import YAML

from broadway.cli.tables import pool_table

Database = AsyncDatabase[dict[str, Any]]
OPERATOR = {"Authorization": "Bearer operator-token"}
SCALER = {"Authorization": f"Bearer {METRICS_TOKEN}"}


@pytest.fixture
async def pool(database: Database) -> str:
    """A pool with four live slots, of which one is paused and one busy, and with five jobs."""
    pool, now = f"pool-{token_hex(4)}", datetime.now(UTC)
    grader: dict[str, Any] = {"pool": pool, "alive": True, "last_seen": now, "jobs_processed": 0}
    await database["worker_node"].insert_many(
        [
            {**grader, "_id": f"{pool}-1", "slots": 3, "running_job_ids": ["x"]},
            {**grader, "_id": f"{pool}-2", "slots": 1, "paused": "its disk is full"},
            {**grader, "_id": f"{pool}-3", "slots": 8, "alive": False},
        ]
    )
    job: dict[str, Any] = {"pool": pool, "course": pool, "class": "bulk", "type": "student", "grading_run_id": "x"}
    ages = {"queued": 90.0, "dispatched": 30.0, "running": 20.0}
    jobs = [{**job, "state": state, "queued_at": now - timedelta(seconds=age)} for state, age in ages.items()]
    ended = {**job, "state": "finished", "queued_at": now - timedelta(minutes=30)}
    times = [{"started_at": now - timedelta(seconds=at), "finished_at": now} for at in (10, 20, 30)]
    never = {"started_at": None, "finished_at": now}
    await database["grading_job"].insert_many(
        [{"_id": ObjectId(), **each} for each in (*jobs, *({**ended, **each} for each in (*times, never)))]
    )
    return pool


async def test_a_pool_has_its_slots_and_its_jobs(client: Client, pool: str) -> None:
    found = (await client.http.get(f"/api/v2/pools/{pool}", headers=OPERATOR)).json()

    assert found["slots"] == {"live": 4, "busy": 1, "free": 2, "paused": 1, "draining": 0}
    assert (found["live_graders"], found["graders"]) == (2, 3)
    jobs = found["jobs"]
    assert 90 <= jobs.pop("oldest_wait") < 600
    jobs.pop("rate")  # known after two reads
    assert jobs == {"waiting": 2, "ready": 0, "running": 1, "mean_duration": 20.0}
    assert found["suggested_slots"] == 2, "a running job, and two that take a third of a minute each"
    assert found["without_secret"] == [f"{pool}-1", f"{pool}-2", f"{pool}-3"]


async def test_a_scaler_may_want_another_target(client: Client, pool: str) -> None:
    answers = [
        await client.http.get(f"/api/v2/pools/{pool}?target={target}", headers=SCALER)
        for target in ("20", "0", "1e9", "nan", "soon")
    ]
    assert [answer.status_code for answer in answers] == [200, 400, 400, 400, 400]
    assert answers[0].json()["suggested_slots"] == 3


async def test_the_token_for_metrics_reads_loads_only(client: Client, pool: str) -> None:
    (found,) = [
        each for each in (await client.http.get("/api/v2/pools", headers=SCALER)).json()["pools"] if each["id"] == pool
    ]
    assert (found["without_secret"], found["reason"]) == ([], "")
    assert found["jobs"]["waiting"] == 2
    refused = await client.http.put(f"/api/v2/pools/{pool}", headers=SCALER, json={"original_graders": True})
    assert refused.status_code == 401
    assert (await client.http.get("/api/v2/whoami", headers=SCALER)).json()["kind"] == "metrics"


async def test_the_commands_print_loads(client: Client, pool: str) -> None:
    shown = await printed(client, "show", pool, "--target", "20", "--json")
    assert json.loads(shown)["suggested_slots"] == 3
    head, *rows = [line.split("\t") for line in (await printed(client, "list")).splitlines()]
    (row,) = [dict(zip(head, row, strict=True)) for row in rows if row[0] == pool]
    assert (row["slots"], row["free"], row["jobs waiting"], row["suggested slots"]) == ("4", "2", "2", "2")


async def printed(client: Client, *arguments: str) -> str:
    """Return what a command about pools prints."""
    login = ("--server", str(client.http.base_url), "--token", METRICS_TOKEN)
    return (await broadway("pool", *arguments, *login)).stdout


def test_pools_of_an_older_server_are_printed_without_loads(capsys: pytest.CaptureFixture[str]) -> None:
    known = {"id": "lab", "original_graders": True, "reason": "", "courses": ["a"], "graders": 2, "without_secret": []}
    pool_table([known])
    assert capsys.readouterr().out.splitlines()[1].split("\t")[:4] == ["lab", "on", "", "a"]


async def test_an_unchanged_list_is_not_sent_again(client: Client) -> None:
    tag = ""
    for _ in range(20):  # the loads change when they are read again
        answer = await client.http.get("/api/v2/pools", headers={**SCALER, "If-None-Match": tag})
        if answer.status_code == 304:
            break
        tag = answer.headers["etag"]
    assert (answer.status_code, answer.content) == (304, b"")


async def test_an_unknown_pool_is_none(client: Client) -> None:
    answer = await client.http.get("/api/v2/pools/nowhere", headers=SCALER)
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "there is no such pool: no course, grader or setting names it",
    )


async def test_a_scaler_of_the_manifests_finds_its_number(client: Client) -> None:
    text = (Path(__file__).parents[3] / "deploy/kubernetes/keda/by-pool-load.yaml").read_text()
    login, scaler = YAML(typ="safe", pure=True).load_all(text)
    (trigger,) = scaler["spec"]["triggers"]
    asked = urlsplit(trigger["metadata"]["url"])
    assert [each["parameter"] for each in login["spec"]["secretTargetRef"]] == ["token"]
    assert trigger["metadata"]["authMode"] == "bearer"

    answer = await client.http.get(f"{asked.path}?{asked.query}", headers=SCALER)

    value = answer.json()
    for step in trigger["metadata"]["valueLocation"].split("."):
        value = value[step]
    assert isinstance(value, int)

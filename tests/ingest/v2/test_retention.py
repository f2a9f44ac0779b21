"""Retention over the API and with commands: rules, passes, and answers about what is gone."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from classes import HandIn
from harness import Client, token_of
from old_classes import BEFORE_DUE, BEST, OldClass, run_of
from pymongo.asynchronous.database import AsyncDatabase
from typer.testing import CliRunner

from broadway.cli.app import app
from broadway.mongo.store import Store

OPERATOR = "operator-token"
Database = AsyncDatabase[dict[str, Any]]


@pytest.fixture
async def group(store: Store, course: str) -> AsyncIterator[OldClass]:
    """A published class with one submission that counts and one that does not, both 40 days old."""
    made = OldClass(store, course)
    await made.prepare(["ada"], BEST)
    await made.hand_in_old(HandIn("ada", BEFORE_DUE, score="9"), HandIn("ada", BEFORE_DUE, score="3", number=2))
    await made.publish()
    return made


async def asked(client: Client, path: str, method: str = "GET", *, token: str, **more: Any) -> Any:
    return await client.http.request(method, f"/api/v2/{path}", headers={"Authorization": f"Bearer {token}"}, **more)


async def command(client: Client, course: str, *arguments: str) -> Any:
    options = ["--server", str(client.http.base_url), "--course", course, "--token", token_of(course)]
    return await asyncio.to_thread(CliRunner().invoke, app, ["retention", *arguments, *options])


async def age(database: Database, course: str, days: int) -> None:
    """Make all that a course has older."""
    past = timedelta(days=days)
    for name, field in (
        ("grading_run", "started_at"),
        ("grading_run", "finished_at"),
        ("work_result", "finished_at"),
        ("work_result", "at"),
        ("submission", "at"),
    ):
        query = {"assignment_id": f"{course}/mp1"} if name == "grading_run" else {"course": course}
        for each in await database[name].find(query, {field: 1}).to_list():
            await database[name].update_one({"_id": each["_id"]}, {"$set": {field: each[field] - past}})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses of the service and of the command."""
    monkeypatch.setattr("broadway.ingest.commands.retention.INTERVAL", 0.05)
    monkeypatch.setattr("broadway.cli.retention.POLL", 0.05)


@pytest.mark.usefixtures("quick")
async def test_a_course_applies_its_own_rules(
    client: Client, group: OldClass, store: Store, database: Database, course: str
) -> None:
    await age(database, course, 40)
    done = await command(client, course, "set", "works=30", "tokens=keep")
    assert done.exit_code == 0, done.output
    shown = (await asked(client, f"courses/{course}/retention", token=token_of(course))).json()
    assert shown["own"] == {"works": 30, "tokens": "keep", "logs": None, "regrades": None, "deliveries": None}
    assert shown["days"] == {"works": 30, "tokens": None, "logs": None, "regrades": None, "deliveries": None}

    dry = await command(client, course, "run", "--dry-run", "--json")
    assert '"submissions": 1' in dry.output, dry.output
    run, (job,) = run_of(course, "ada-2"), await store.jobs.of_run(run_of(course, "ada-2"))
    assert (await asked(client, f"courses/{course}/runs/{run}", token=token_of(course))).status_code == 200
    refused = await command(client, course, "run")
    assert refused.exit_code == 2, refused.output
    done = await command(client, course, "run", "--yes")
    assert done.exit_code == 0, done.output

    day = f"{datetime.now(UTC):%Y-%m-%d}"
    work = group.submission("ada", 2)
    for path, kind in ((f"runs/{run}", "run"), (f"jobs/{job.id}", "job"), (f"submissions/{work}", "submission")):
        answer = await asked(client, f"courses/{course}/{path}", token=token_of(course))
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"this {kind} was deleted by retention on {day}"
    kept = await asked(client, f"courses/{course}/submissions/{group.submission('ada')}", token=token_of(course))
    assert kept.status_code == 200
    records = (await asked(client, f"courses/{course}/audit", token=token_of(course))).json()["items"]
    passes = [each for each in records if each["operation"] == "retention.pass"]
    assert [each["name"] for each in passes] == ["retention"]
    assert '"runs":1' in str(passes[0]["after"]).replace(" ", "").replace("'", '"')


@pytest.mark.parametrize("rule", [0, -1, 36_501, "forever", True, 1.5], ids=str)
async def test_a_rule_out_of_its_bounds_is_refused(client: Client, course: str, rule: Any) -> None:
    answer = await asked(client, f"courses/{course}/retention", "PUT", token=token_of(course), json={"works": rule})
    assert answer.status_code == 400
    assert "works" in answer.json()["detail"]


async def test_one_pass_is_ordered_at_a_time(client: Client, store: Store, course: str) -> None:
    answers = [
        await asked(client, f"courses/{course}/retention/passes", "POST", token=OPERATOR, json={"dry_run": True})
        for _ in range(2)
    ]
    assert answers[0].status_code == 202
    if answers[1].status_code != 202:  # the first one has not ended yet
        assert answers[1].status_code == 409
    state = await store.retention.get(course)
    assert state.ordered is not None or state.last_dry is not None


@pytest.mark.usefixtures("quick")
async def test_operators_count_what_has_no_course(client: Client) -> None:
    options = ["--server", str(client.http.base_url), "--token", OPERATOR, "--deployment", "--json"]
    done = await asyncio.to_thread(CliRunner().invoke, app, ["retention", "run", "--dry-run", *options])
    assert done.exit_code == 0, done.output
    shown = (await asked(client, "retention", token=OPERATOR)).json()
    assert shown["days"] == {"tokens": None, "dead_letters": None, "graders": None}
    assert shown["last_dry_run"]["counts"] == {}

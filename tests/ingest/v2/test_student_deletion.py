"""The deletion of a student's data over the API and with a command, while a job of the student waits."""

import asyncio
import json
import zipfile
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import httpx2
import pytest
from classes import HandIn
from deleted_students import TracedClass, naming
from harness import Client, stage, token_of, until
from old_classes import BEFORE_DUE
from pymongo.asynchronous.database import AsyncDatabase
from typer.testing import CliRunner

from broadway.cli.app import app
from broadway.mongo.store import Store

REASON = "asked for it"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses of the service, which carries out an order in several steps, and of the command."""
    monkeypatch.setattr("broadway.ingest.commands.student_deletion.INTERVAL", 0.05)
    monkeypatch.setattr("broadway.cli.student_data.POLL", 0.05)


@pytest.fixture
async def group(client: Client, store: Store, course: str) -> TracedClass:
    assert client.http
    made = TracedClass(store, course)
    await made.make()
    await made.hand_in(HandIn(made.ada, BEFORE_DUE + timedelta(hours=1), outcome=None, number=3))
    return made


async def asked(client: Client, course: str, path: str, method: str = "GET", **more: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token_of(course)}"}
    return await client.http.request(method, f"/api/v2/courses/{course}/{path}", headers=headers, **more)


async def command(client: Client, course: str, *arguments: str) -> Any:
    options = ["--server", str(client.http.base_url), "-c", course, "--token", token_of(course)]
    return await asyncio.to_thread(CliRunner().invoke, app, ["student", "delete", *arguments, *options])


def shown(result: Any) -> dict[str, Any]:
    """Return the document that a command prints among log lines of the service."""
    found: dict[str, Any] = json.JSONDecoder().raw_decode(result.stdout[result.stdout.index("{\n") :])[0]
    return found


async def test_a_command_deletes_a_student_and_shows_the_receipt(
    client: Client, group: TracedClass, store: Store, database: AsyncDatabase[dict[str, Any]], course: str
) -> None:
    path = f"students/{group.ada}/deletion"
    assert (await asked(client, course, path)).status_code == 404
    refused = await command(client, course, group.ada, "--yes")
    assert refused.exit_code == 2, refused.output
    refused = await command(client, course, group.ada, "--reason", REASON)
    assert refused.exit_code == 2, refused.output
    dry = await command(client, course, group.ada, "--dry-run", "--json")
    assert dry.exit_code == 0, dry.output
    counted = shown(dry)
    assert (counted["dry_run"], counted["counts"]["submissions"], counted["ended_at"]) == (True, 3, None)

    done = await command(client, course, group.ada, "--reason", REASON, "--yes", "--json")
    assert done.exit_code == 0, done.output
    receipt = shown(done)
    assert receipt["counts"] == counted["counts"]
    assert (receipt["reason"], receipt["number"], receipt["student"]) == (REASON, 1, counted["student"])
    await store.reports.sweep_files(datetime.now(UTC) + timedelta(days=1))  # bytes are swept a day later
    assert await naming(database, group.ada) == []
    again = await command(client, course, group.ada, "--reason", "again", "--yes", "--json")
    assert shown(again) == receipt
    assert (await asked(client, course, path)).json() == receipt
    records = (await asked(client, course, "audit")).json()["items"]
    assert {"students_delete", "students.deleted"} <= {each["operation"] for each in records}
    assert await naming(database, group.ada) == [], "the records of the requests"
    answer = await asked(client, course, f"students/{group.ada}/export")
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert json.loads(archive.read("manifest.json"))["counts"] == {"audit": 1, "files": 0}


async def test_an_upload_that_waits_is_cancelled_and_deleted(
    client: Client, database: AsyncDatabase[dict[str, Any]], course: str
) -> None:
    await client.register(course, "mp1", students=[stage()])
    name = f"eve-{course}"
    answer = await asked(client, course, "assignments/mp1/roster", "PUT", json={"students": [{"student": name}]})
    answer.raise_for_status()
    form: dict[str, Any] = {"params": {"student": name}, "files": {"files": ("a.txt", course.encode())}}
    answer = await asked(client, course, "assignments/mp1/submissions", "POST", **form)
    answer.raise_for_status()

    async def run() -> dict[str, Any] | None:
        return await database["grading_run"].find_one({"assignment_id": f"{course}/mp1"})

    assert await until(run)
    done = await command(client, course, name, "--reason", REASON, "--yes", "--json")
    assert done.exit_code == 0, done.output
    counts = shown(done)["counts"]
    assert {kind: counts[kind] for kind in ("submissions", "runs", "jobs", "rosters")} == {
        "submissions": 1,
        "runs": 1,
        "jobs": 1,
        "rosters": 1,
    }
    assert await naming(database, name) == []
    assert await run() is None
    for kind in ("grading_job", "work_result", "job_outcome"):
        assert await database[kind].count_documents({"course": course}) == 0


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"reason": " "}, 400, "reason"),
        ({"reason": "x" * 1001}, 400, "reason"),
        ({"reason": REASON}, 404, "nothing is stored"),
    ],
)
async def test_an_order_without_a_reason_or_a_student_is_refused(
    client: Client, course: str, body: dict[str, Any], status: int, text: str
) -> None:
    answer = await asked(client, course, "students/unknown-to-all/deletion", "POST", json=body)
    assert answer.status_code == status
    assert text in answer.json()["detail"]

"""The export of all that is stored about a student: whole, and without other students."""

import asyncio
import io
import json
import stat
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from classes import HandIn
from harness import Client, token_of
from old_classes import BEFORE_DUE, BEST, OldClass
from typer.testing import CliRunner

from broadway.cli.app import app
from broadway.domain.extension import Extension, ExtensionOrder, Target
from broadway.domain.job import Outcome
from broadway.domain.roster import RosterEntry
from broadway.mongo.store import Store


@pytest.fixture
async def group(client: Client, store: Store, course: str) -> OldClass:
    """Ada, alone in an entry, and zed, who is in a team with yan."""
    made = OldClass(store, course)
    await made.prepare(["ada", "bob", RosterEntry(student="team", members=("yan", "zed"))], BEST)
    scores = (("ada", 1, "3"), ("ada", 2, "9"), ("bob", 1, "4"), ("team", 1, "2"))
    await made.hand_in_old(*(HandIn(name, BEFORE_DUE, score=score, number=number) for name, number, score in scores))
    await made.hand_in(HandIn("ada", BEFORE_DUE + timedelta(hours=1), outcome=None, number=3))
    await made.publish()
    entries = [{"student": "ada"}, {"student": "bob"}, {"student": "team", "members": ["yan", "zed"]}]
    answer = await asked(client, course, "assignments/mp1/roster", "PUT", json={"students": entries})
    assert answer.status_code == 200, answer.text
    for number, name in enumerate(("ada", "bob"), 1):
        order = ExtensionOrder(target=Target.STUDENT, name=name, add_days=1)
        assert await store.grades.extensions.add(
            course, "mp1", Extension("", order, BEFORE_DUE, "staff"), number=number
        )
        answer = await asked(client, course, "student-tokens", "POST", json={"student": name})
        assert answer.status_code == 201
        await store.grades.claims.put(course, "mp1", name, 1)
    return made


async def asked(client: Client, course: str, path: str, method: str = "GET", **more: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token_of(course)}"}
    return await client.http.request(method, f"/api/v2/courses/{course}/{path}", headers=headers, **more)


def lines(archive: zipfile.ZipFile, kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in archive.read(f"{kind}.jsonl").decode().splitlines()]


async def test_an_export_has_all_of_a_student_and_nothing_of_others(
    client: Client, group: OldClass, course: str, tmp_path: Path
) -> None:
    target = tmp_path / "ada.zip"
    options = ["--server", str(client.http.base_url), "-c", course, "--token", token_of(course), "-o", str(target)]
    done = await asyncio.to_thread(CliRunner().invoke, app, ["student", "export", "ada", *options])
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(target.stat().st_mode) == 0o600

    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
        manifest = json.loads(texts["manifest.json"])
        expected = {"submissions": 3, "results": 2, "jobs": 3, "outcomes": 2, "reports": 2, "logs": 2, "runs": 2}
        assert {kind: manifest["counts"].get(kind) for kind in expected} == expected
        assert [each["version"] for each in lines(archive, "grades")] == [1]
        assert [each["order"]["name"] for each in lines(archive, "extensions")] == ["ada"]
        assert [each["days"] for each in lines(archive, "late_days")] == [1]
        assert [each["student"] for each in lines(archive, "rosters")] == ["ada"]
        (token,) = lines(archive, "tokens")
        assert "digest" not in token
        assert {each["operation"] for each in lines(archive, "audit")} >= {"tokens_add_for_student", "students_export"}
    audit = [json.loads(line) for line in texts["audit.jsonl"].splitlines()]
    rosters = [each["given"] for each in audit if each["object"].endswith("/roster")]
    assert rosters == ['{"students":[{"student":"ada"}]}']
    assert not [name for name, text in texts.items() if "bob" in text or group.submission("bob") in text]
    records = (await asked(client, course, "audit")).json()["items"]
    assert [each["operation"] for each in records].count("students_export") == 1


async def test_a_member_of_a_team_gets_the_teams_submissions(client: Client, group: OldClass, course: str) -> None:
    answer = await asked(client, course, "students/zed/export")
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert [each["_id"] for each in lines(archive, "submissions")] == [group.submission("team")]
        (grade,) = lines(archive, "grades")
        assert grade["grade"]["student"] == "zed"
        assert Outcome.SUCCEEDED.value in archive.read("results.jsonl").decode()


async def test_an_unknown_student_has_an_empty_export(client: Client, course: str) -> None:
    answer = await asked(client, course, "students/nobody/export")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert json.loads(archive.read("manifest.json"))["counts"] == {"audit": 1, "files": 0}

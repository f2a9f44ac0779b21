"""`broadway backup`, `broadway restore` and `broadway migrate`, as operators run them."""

import json
from pathlib import Path

import pytest
from backup.conftest import Databases
from harness import broadway

from broadway.local.store import store
from broadway.local.up_variables import locked
from broadway.mongo.migrations import MIGRATIONS
from broadway.mongo.raw_documents import RawDocuments


@pytest.fixture
async def given(source: Databases) -> Databases:
    await source.primary["course"].insert_many([{"_id": "cs101"}, {"_id": "cs241"}])
    return source


def environment(databases: Databases, dsn: str) -> dict[str, str]:
    names = {"PRIMARY": databases.primary.name, "LOGS": databases.logs.name}
    return {"BROADWAY_MONGODB_DSN": dsn, **{f"BROADWAY_MONGODB_{role}": name for role, name in names.items()}}


async def test_a_site_moves_to_another_store(
    given: Databases, target: Databases, mongodb_dsn: str, tmp_path: Path
) -> None:
    backup = str(tmp_path / "backup")
    made = await broadway("backup", backup, **environment(given, mongodb_dsn))
    assert made.exit_code == 0, made.stderr
    assert "primary/course: 2 documents\n" in made.stderr
    assert made.stdout.startswith(f"{backup}: 2 documents of ")

    checked = await broadway("restore", "--check", backup)
    assert checked.exit_code == 0
    assert checked.stdout.startswith(f"{backup}: whole, 2 documents of ")

    restored = await broadway("restore", backup, "--json", **environment(target, mongodb_dsn))
    assert restored.exit_code == 0, restored.stderr
    report = json.loads(restored.stdout)
    assert {"place": "primary/course", "documents": 2, "left_out": 0} in report["restored"]
    assert await target.documents() == await given.documents()

    again = await broadway("restore", backup, **environment(target, mongodb_dsn))
    assert again.exit_code == 1
    assert "the store has data already, in primary/course: restore into an empty one" in again.stderr


async def test_a_backup_that_cannot_be_is_an_error(given: Databases, mongodb_dsn: str, tmp_path: Path) -> None:
    existing = await broadway("backup", str(tmp_path), **environment(given, mongodb_dsn))
    assert (existing.exit_code, existing.stderr.count("\n")) == (1, 1)
    assert "exists; name a directory that does not" in existing.stderr
    elsewhere = "mongodb://127.0.0.1:9"
    nobody = await broadway("backup", str(tmp_path / "b"), "--mongodb-dsn", elsewhere, "--mongodb-timeout", "1")
    assert nobody.exit_code == 1
    assert "MongoDB does not answer: 127.0.0.1:9: " in nobody.stderr
    assert nobody.stderr.endswith("; is --mongodb-dsn right, and the server up?\n")
    assert "Topology Description" not in nobody.stderr
    assert list(tmp_path.iterdir()) == []


async def test_the_store_of_an_up_that_does_not_run_is_restored(
    given: Databases, mongodb_dsn: str, tmp_path: Path
) -> None:
    backup, up = str(tmp_path / "backup"), tmp_path / "up"
    assert (await broadway("backup", backup, **environment(given, mongodb_dsn))).exit_code == 0
    restored = await broadway("restore", backup, "--up", str(up))
    assert restored.exit_code == 0, restored.stderr
    with locked(up):
        running = await broadway("restore", backup, "--up", str(up))
        assert running.exit_code == 1
        assert "another `broadway up` runs in" in running.stderr
        async with store(up / "store") as own, RawDocuments.connect(own.dsn, primary="AG", logs="logs") as site:
            assert await site.known("primary/course", ["cs101", "cs241", "cs999"]) == {"cs101", "cs241"}


async def test_migrations_are_shown_and_made(target: Databases, mongodb_dsn: str) -> None:
    settings = environment(target, mongodb_dsn)
    planned = await broadway("migrate", "--dry-run", "--json", **settings)
    assert [(each["migration"], each["state"]) for each in json.loads(planned.stdout)] == [
        (each.name, "pending") for each in MIGRATIONS
    ]
    assert await target.primary.list_collection_names() == []
    made = await broadway("migrate", **settings)
    assert made.exit_code == 0, made.stderr
    assert made.stdout.splitlines()[0] == "migration\tstate\tat\tby\tchange"
    assert [line.split("\t")[1] for line in made.stdout.splitlines()[1:]] == ["made"] * len(MIGRATIONS)

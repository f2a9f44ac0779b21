import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.errors import OperationFailure

from broadway.local.processes import MissingError, accepts
from broadway.local.store import store


async def insert(dsn: str, key: int) -> None:
    async with AsyncMongoClient(dsn) as client:
        collection = client.tests.get_collection("kept", write_concern=WriteConcern(w="majority", j=True))
        await collection.insert_one({"_id": key})


async def keys(dsn: str) -> list[int]:
    async with AsyncMongoClient(dsn) as client:
        return [each["_id"] async for each in client.tests.kept.find({}, sort=[("_id", 1)])]


async def test_documents_survive_a_kill_and_a_stop_frees_the_port(tmp_path: Path) -> None:
    async with store(tmp_path) as first:
        for key in range(1, 50):
            await insert(first.dsn, key)
        os.kill(first.pid, signal.SIGKILL)
        assert "status -9" in str(await first.ended())

    port = int(first.dsn.partition("?")[0].rstrip("/").rpartition(":")[2])
    async with store(tmp_path, port=port) as second:
        assert second.dsn == first.dsn
        assert await keys(second.dsn) == [*range(1, 50)]
    assert second.child.process.returncode == 0
    assert not await accepts(port)


async def test_no_other_local_user_reads_or_writes_the_store(tmp_path: Path) -> None:
    async with store(tmp_path / "store") as running:
        async with AsyncMongoClient(running.dsn) as own:
            await own.AG.service_secret.insert_one({"_id": "tickets", "value": b"key"})
        address = running.dsn.partition("//")[2].rpartition("@")[2].partition("/")[0]
        options = "?directConnection=true&retryWrites=false"
        stranger: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(f"mongodb://{address}/{options}")
        async with stranger:
            attempts: list[Callable[[], Awaitable[object]]] = [
                lambda: stranger.AG.service_secret.find_one({}),
                lambda: stranger.AG.service_secret.insert_one({"_id": "x"}),
                lambda: stranger.admin.command("createUser", "x", pwd="x", roles=["root"]),
                stranger.list_database_names,
            ]
            for attempt in attempts:
                with pytest.raises(OperationFailure, match="requires authentication"):
                    await attempt()
        guessing: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
            f"mongodb://broadway:wrong@{address}/{options}"
        )
        async with guessing:
            with pytest.raises(OperationFailure, match="authentication failed"):
                await guessing.AG.service_secret.find_one({})
        modes = {(tmp_path / name).stat().st_mode & 0o777 for name in ("store", "store/password", "store/store.log")}
        assert modes == {0o700, 0o600}


async def test_data_of_an_earlier_version_without_a_login_are_kept(tmp_path: Path) -> None:
    """They survive a clean stop, too."""
    async with store(tmp_path) as first:
        await insert(first.dsn, 1)
    (tmp_path / "data" / "broadway-user").unlink()
    (tmp_path / "password").unlink()
    tmp_path.chmod(0o755)

    async with store(tmp_path) as second:
        assert await keys(second.dsn) == [1]
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.long
async def test_two_stores_run_side_by_side(tmp_path: Path) -> None:
    async with store(tmp_path / "a") as one, store(tmp_path / "b") as other:
        await insert(one.dsn, 1)
        assert await keys(other.dsn) == []


async def test_the_error_without_the_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match=r"which the extra 'local' brings: .*, or set BROADWAY_MONGODB_DSN"):
        async with store(tmp_path):
            pass

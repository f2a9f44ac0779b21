"""Backups of a store that changes meanwhile, and their return into an empty one."""

import gzip
import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from backup.conftest import VERSION, Databases, made, restored
from bson import ObjectId, json_util

from broadway.backup.manifest import BackupError, Manifest
from broadway.backup.order import FIRST, LAST, LEFT_OUT, PARENTS, following
from broadway.backup.parts import PartWriter
from broadway.backup.restore import checked, restore
from broadway.backup.take import take
from broadway.mongo.migrations import UnfinishedRestoreError
from broadway.mongo.raw_documents import JOBS, MIGRATIONS, RUNS
from broadway.mongo.store import Store

RECORDINGS = sorted((Path(__file__).parents[1] / "recordings" / "data").iterdir())
NOW = datetime.now(UTC).replace(microsecond=0)


async def fill(source: Databases, recording: Path) -> None:
    """Store the documents of a recording; the store of a restore has its own records of migrations."""
    lines = (recording / "documents.jsonl").read_text().splitlines()
    options = json_util.JSONOptions(tz_aware=True, json_mode=json_util.JSONMode.CANONICAL)
    held: dict[str, list[Any]] = {}
    for line in lines:
        each = json_util.loads(line, json_options=options)
        held.setdefault(each["collection"], []).append(each["document"])
    held.pop("migration", None)
    for collection, documents in held.items():
        database = source.logs if collection == "job_log" else source.primary
        await database[collection].insert_many(documents)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
async def test_documents_of_every_version_are_restored_as_they_were(
    source: Databases, target: Databases, tmp_path: Path, recording: Path
) -> None:
    await fill(source, recording)
    manifest = await made(source, tmp_path / "backup")
    await restored(target, tmp_path / "backup")
    expected = {place: each for place, each in (await source.documents()).items() if place not in LEFT_OUT}
    assert await target.documents() == expected
    records = sum(part.documents for part in manifest.parts if part.place == MIGRATIONS)
    assert manifest.documents - records == sum(map(len, expected.values()))
    assert manifest.version == VERSION


async def test_only_the_owner_can_read_a_backup(source: Databases, tmp_path: Path) -> None:
    await fill(source, RECORDINGS[-1])
    await made(source, tmp_path / "backup")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "backup").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700


async def test_a_backup_replaces_nothing(source: Databases, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    with pytest.raises(BackupError, match="exists; name a directory that does not"):
        await made(source, tmp_path / "backup")
    assert list((tmp_path / "backup").iterdir()) == []


async def test_a_backup_that_fails_is_removed(source: Databases, tmp_path: Path) -> None:
    await fill(source, RECORDINGS[-1])
    taking = take(source.site, tmp_path / "backup", version=VERSION)
    await anext(taking)
    assert (tmp_path / "backup").exists()
    with pytest.raises(RuntimeError, match="the disk"):
        await taking.athrow(RuntimeError("the disk is full"))
    assert list(tmp_path.iterdir()) == []


def _rewrite(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def rewrite(directory: Path) -> None:
        manifest = json.loads((directory / "manifest.json").read_text())
        change(manifest)
        (directory / "manifest.json").write_text(json.dumps(manifest))

    return rewrite


def _flip(directory: Path) -> None:
    file = directory / "primary.course.bson.gz"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _newer(manifest: dict[str, Any]) -> None:
    manifest.update(format=2, version="9.0")


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a bit": (_flip, r"primary\.course\.bson\.gz: its SHA-256 differs; the backup is damaged"),
    "a file": (lambda d: (d / "primary.course.bson.gz").unlink(), "No such file"),
    "the manifest": (lambda d: (d / "manifest.json").unlink(), "expected the directory of a backup that has ended"),
    "its JSON": (lambda d: (d / "manifest.json").write_text("{"), "expected JSON; the backup is damaged"),
    "nested JSON": (lambda d: (d / "manifest.json").write_text("[" * 100_000), "expected JSON; the backup is damaged"),
    "its places": (_rewrite(lambda m: m["parts"][0].update(place="primary/../x")), "place: .* the backup is damaged"),
    "its counts": (_rewrite(lambda m: m["parts"][0].update(documents=-1)), "documents: .* the backup is damaged"),
    "two of a place": (_rewrite(lambda m: m["parts"].append(m["parts"][0])), "a place occurs twice"),
    "a later format": (_rewrite(_newer), r"format 2, made by version 9\.0; this version reads formats up to 1"),
    "a later store": (_rewrite(lambda m: m.update(migrations=["of-later"])), r"does not know \(of-later\)"),
    "something else": (_rewrite(lambda m: m.update(kind="x")), "kind: "),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_or_later_backup_is_refused(source: Databases, tmp_path: Path, damage: str) -> None:
    await source.primary["course"].insert_many([{"_id": f"cs{n}", "tokens": ["x" * n]} for n in range(100)])
    await made(source, tmp_path / "backup")
    act, reason = DAMAGES[damage]
    act(tmp_path / "backup")
    with pytest.raises(BackupError, match=reason):
        await checked(tmp_path / "backup")


@pytest.mark.parametrize("text", ["cut off", "twice", "no documents"])
async def test_a_part_that_differs_from_its_description_is_refused(
    source: Databases, target: Databases, tmp_path: Path, text: str
) -> None:
    """A program with the right digest, but other contents, has written such a file."""
    await source.primary["course"].insert_one({"_id": "cs1"})
    manifest = await made(source, tmp_path / "backup")
    file = tmp_path / "backup" / "primary.course.bson.gz"
    data = gzip.decompress(file.read_bytes())
    changed = {"cut off": data[:-3], "twice": data + data, "no documents": b"\xff" * 9}[text]
    file.write_bytes(gzip.compress(changed))
    with pytest.raises(BackupError, match="the backup is damaged"):
        [each async for each in restore(target.site, tmp_path / "backup", manifest, by="a test")]


@pytest.mark.parametrize("place", ["primary/job_outcome", "primary/migration", "primary/course"])
@pytest.mark.parametrize(
    "document", [b"\x09\0\0\0\x10a\0\0\0", b"\x05\0\0\0\0", b"\x05\0\0\0\1"], ids=["cut", "empty", "no-end"]
)
async def test_a_document_that_no_store_has_written_is_refused(
    target: Databases, tmp_path: Path, place: str, document: bytes
) -> None:
    writer = PartWriter(place, tmp_path)
    writer.write(document)
    manifest = Manifest(version=VERSION, begun_at=NOW, ended_at=NOW, parts=[writer.close()])
    with pytest.raises(BackupError, match=f"{place}: .* the backup is damaged"):
        [each async for each in restore(target.site, tmp_path, manifest, by="a test")]


async def test_a_site_with_data_stays_as_it_is(source: Databases, target: Databases, tmp_path: Path) -> None:
    await source.primary["course"].insert_one({"_id": "cs1"})
    await target.primary["course"].insert_one({"_id": "cs2"})
    await made(source, tmp_path / "backup")
    with pytest.raises(BackupError, match="the store has data already, in primary/course: restore into an empty one"):
        await restored(target, tmp_path / "backup")
    assert await target.documents() == {"primary/course": [{"_id": "cs2"}]}


async def test_a_site_whose_services_run_stays_as_it_is(source: Databases, target: Databases, tmp_path: Path) -> None:
    lease = {"_id": "dispatcher", "holder": "host1", "expires_at": NOW + timedelta(hours=1)}
    await target.primary["service_lease"].insert_one(lease)
    await made(source, tmp_path / "backup")
    with pytest.raises(BackupError, match=r"a dispatcher runs on this store \(host1\): stop all services"):
        await restored(target, tmp_path / "backup")


async def test_what_services_made_when_they_started_is_replaced(
    source: Databases, target: Databases, tmp_path: Path
) -> None:
    await source.primary["service_secret"].insert_one({"_id": "tickets", "value": "source"})
    await target.primary["service_secret"].insert_many([{"_id": "tickets", "value": "target"}, {"_id": "other"}])
    await made(source, tmp_path / "backup")
    await restored(target, tmp_path / "backup")
    assert await target.documents() == {"primary/service_secret": [{"_id": "tickets", "value": "source"}]}


async def test_an_interrupted_restore_keeps_services_away_until_it_is_repeated(
    source: Databases, target: Databases, mongodb_dsn: str, tmp_path: Path
) -> None:
    await fill(source, RECORDINGS[-1])
    manifest = await made(source, tmp_path / "backup")
    restoring = restore(target.site, tmp_path / "backup", manifest, by="a test")
    await anext(restoring)
    await restoring.aclose()
    names = {"primary": target.primary.name, "logs": target.logs.name}
    with pytest.raises(UnfinishedRestoreError):
        async with Store.connect(mongodb_dsn, **names):
            pass
    await restored(target, tmp_path / "backup")
    async with Store.connect(mongodb_dsn, **names) as store:
        assert len(await store.courses.all()) == 5


async def test_a_backup_of_a_restored_site_can_be_restored(
    source: Databases, target: Databases, mongodb_dsn: str, tmp_path: Path
) -> None:
    await source.primary["migration"].insert_one({"_id": "restore", "started_at": NOW, "finished_at": NOW, "by": "x"})
    await made(source, tmp_path / "backup")
    restoring = restore(target.site, tmp_path / "backup", await checked(tmp_path / "backup"), by="a test")
    assert (await anext(restoring)).documents == 0
    with pytest.raises(UnfinishedRestoreError):
        async with Store.connect(mongodb_dsn, primary=target.primary.name, logs=target.logs.name):
            pass
    await restoring.aclose()


def run(identity: ObjectId, **more: Any) -> dict[str, Any]:
    return {"_id": identity, "state": "students", "round": 1, "started_at": datetime.now(UTC), **more}


def job(of: ObjectId, **more: Any) -> dict[str, Any]:
    return {"_id": ObjectId(), "grading_run_id": str(of), "queued_at": datetime.now(UTC), **more}


async def test_a_run_that_comes_while_jobs_are_read_is_left_out_with_all_that_it_has(
    source: Databases, target: Databases, tmp_path: Path
) -> None:
    early, late = ObjectId(), ObjectId()
    jobs = [job(early, state="queued"), job(late, state="finished")]
    await source.primary["grading_run"].insert_one(run(early))
    await source.primary["grading_job"].insert_one(jobs[0])
    # The site answers with the runs before the late one is stored.
    await made_with(source, tmp_path / "backup", after=RUNS, act=lambda: _begin(source, run(late), jobs[1]))
    left = {each.place: each.left_out for each in await restored(target, tmp_path / "backup") if each.left_out}
    found = await target.documents()
    assert [each["_id"] for each in found["primary/grading_run"]] == [early]
    assert [each["_id"] for each in found["primary/grading_job"]] == [jobs[0]["_id"]]
    assert "primary/job_outcome" not in found
    assert left == {"primary/grading_job": 1, "primary/job_outcome": 1, "primary/work_result": 1}


async def _begin(source: Databases, late: dict[str, Any], one: dict[str, Any]) -> None:
    await source.primary["grading_run"].insert_one(late)
    await source.primary["grading_job"].insert_one(one)
    key, at = f"{one['_id']}:1", datetime.now(UTC)
    await source.primary["job_outcome"].insert_one({"_id": key, "grading_job_id": str(one["_id"]), "finished_at": at})
    await source.primary["work_result"].insert_one({"_id": key, "finished_at": at})


async def test_a_run_that_is_rerun_while_jobs_are_read_has_jobs_of_its_own_round(
    source: Databases, target: Databases, tmp_path: Path
) -> None:
    identity = ObjectId()
    one = job(identity, state="finished", round=1)
    await source.primary["grading_run"].insert_one(run(identity, state="complete"))
    await source.primary["grading_job"].insert_one(one)

    async def rerun() -> None:
        await source.primary["grading_run"].update_one({"_id": identity}, {"$set": {"state": "students", "round": 2}})
        await source.primary["grading_job"].update_one({"_id": one["_id"]}, {"$set": {"state": "queued", "round": 2}})

    await made_with(source, tmp_path / "backup", after=RUNS, act=rerun)
    await restored(target, tmp_path / "backup")
    found = await target.documents()
    states = [(each["state"], each["round"]) for each in (*found["primary/grading_run"], *found["primary/grading_job"])]
    assert states == [("students", 2), ("queued", 2)]


async def test_a_backup_ends_with_advice_if_runs_get_orders_all_the_time(
    source: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(1, 1000))
    identity = ObjectId()
    await source.primary["grading_run"].insert_one(run(identity))
    await source.primary["grading_job"].insert_one(job(identity))

    async def rounds(_: object) -> dict[str, int]:
        return {str(identity): next(numbers)}

    monkeypatch.setattr(type(source.site), "rounds", rounds)
    with pytest.raises(BackupError, match="make the backup a little later"):
        await made(source, tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


async def test_old_documents_without_parents_are_kept(source: Databases, target: Databases, tmp_path: Path) -> None:
    """Staff have removed the submission of a student, and the original's jobs may have no run."""
    old = NOW - timedelta(days=1)
    upload = {"hook": "@uploads/lab", "version": "removed", "delivery": "d"}
    await source.primary["grading_run"].insert_one(run(ObjectId(), started_at=old, trigger=upload))
    await source.primary["grading_job"].insert_many([job(ObjectId(), queued_at=old), {"_id": ObjectId()}])
    await made(source, tmp_path / "backup")
    await restored(target, tmp_path / "backup")
    assert await target.documents() == await source.documents()


async def test_a_submission_that_comes_meanwhile_is_left_out_with_its_delivery_and_run(
    source: Databases, target: Databases, tmp_path: Path
) -> None:
    upload = {"hook": "@uploads/lab", "version": "new", "delivery": "d"}
    delivery = {"_id": "d", "hook": "@uploads/lab", "delivery_id": "new", "received_at": datetime.now(UTC)}
    await source.primary["submission"].insert_one({"_id": "known"})
    known = [{**delivery, "_id": "e", "delivery_id": "known"}, {**delivery, "_id": "f", "hook": "git"}]
    await source.primary["hook_delivery"].insert_many(known)

    async def hand_in() -> None:
        await source.primary["submission"].insert_one({"_id": "new"})
        await source.primary["hook_delivery"].insert_one(delivery)
        await source.primary["grading_run"].insert_one(run(ObjectId(), trigger=upload))

    await source.primary["grading_run"].insert_one(run(ObjectId(), trigger={**upload, "version": "known"}))
    await made_with(source, tmp_path / "backup", after="primary/submission", act=hand_in)
    await restored(target, tmp_path / "backup")
    found = await target.documents()
    assert {place: len(each) for place, each in found.items()} == {
        "primary/submission": 1,
        "primary/hook_delivery": 2,
        "primary/grading_run": 1,
    }


async def made_with(source: Databases, directory: Path, *, after: str, act: Callable[[], Any]) -> Manifest:
    """Make a backup, and act after a collection was read."""

    class Acting:
        def __getattr__(self, name: str) -> Any:
            return getattr(source.site, name)

        async def documents(self, place: str) -> Any:
            async for batch in source.site.documents(place):
                yield batch
            if place == after:
                await act()

    acting: Any = Acting()
    *_, manifest = [each async for each in take(acting, directory, version=VERSION)]
    assert isinstance(manifest, Manifest)
    return manifest


def test_parents_are_read_first_and_contents_last() -> None:
    places = [*FIRST, *following([*FIRST, *LAST, *LEFT_OUT, "primary/of-later", "primary/course"])]
    for place, parents in PARENTS.items():
        assert all(places.index(parent.place) < places.index(place) for parent in parents)
    assert places[-3:] == ["primary/course", "primary/of-later", "primary/blob"]
    assert len(set(places)) == len(places)
    assert not LEFT_OUT & {*places}
    assert places.index(RUNS) < places.index(JOBS)

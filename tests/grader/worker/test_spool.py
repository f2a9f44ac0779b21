"""Outcomes on disk until the broker has confirmed them."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import small_disk_at, until
from outcomes import job, outcome

from broadway.grader.worker import spool as spooling
from broadway.grader.worker.spool import NAME, Spool, unreported
from broadway.messages.events import JobFinished


def opened(directory: Path) -> Spool[JobFinished]:
    return Spool(directory, JobFinished)


def left(directory: Path) -> list[str]:
    """Return the outcomes that the next process finds, as jobs."""
    return sorted(job_id for job_id, _, _ in unreported(directory, JobFinished))


async def test_an_outcome_survives_its_process(tmp_path: Path) -> None:
    stored = outcome(stdout="ä\0\r\n\N{REPLACEMENT CHARACTER}\N{LINE SEPARATOR}")
    await opened(tmp_path / "deep" / "spool").put(stored)

    assert opened(tmp_path / "deep" / "spool").get(job()) == stored


async def test_an_outcome_belongs_to_one_start_of_its_job(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    await spool.put(outcome())

    assert spool.get(job()) is not None
    assert spool.get(job("j2")) is None
    assert spool.get(job(generation=2)) is None
    assert spool.get(job(attempt=2)) is None


async def test_the_last_outcome_counts(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    await spool.put(outcome(stdout="first"))
    await spool.put(outcome(stdout="second"))

    assert [stored.stdout for stored in spool] == ["second"]
    assert [stored.stdout for stored in opened(tmp_path)] == ["second"]


async def test_a_confirmed_outcome_is_forgotten(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    await spool.put(outcome())
    await spool.put(outcome("j2"))
    spool.remove(outcome())
    spool.remove(outcome())

    assert spool.get(job()) is None
    assert [stored.job_id for stored in spool] == ["j2"]
    await until(lambda: left(tmp_path) == ["j2"])


async def test_a_job_that_runs_again_after_its_outcome_was_confirmed_is_spooled_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    await spool.put(outcome(stdout="first"))
    spool.remove(outcome())
    await spool.put(outcome(stdout="second"))

    assert [stored.stdout for stored in opened(tmp_path)] == ["second"]


async def test_a_closed_spool_leaves_only_what_is_not_confirmed(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    await spool.put(outcome())
    await spool.put(outcome("j2"))
    spool.remove(outcome())
    spool.close()
    assert left(tmp_path) == ["j2"]

    spool = opened(tmp_path)
    spool.remove(outcome("j2"))
    spool.close()
    assert list(tmp_path.iterdir()) == []


async def test_outcomes_that_wait_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    sync = os.fdatasync

    def counted(descriptor: int) -> None:
        syncs.append(descriptor)
        sync(descriptor)

    monkeypatch.setattr("broadway.grader.worker.spool.os.fdatasync", counted)
    spool = opened(tmp_path)
    await asyncio.gather(*(spool.put(outcome(f"j{number}")) for number in range(20)))

    assert len(syncs) == 1
    assert len(left(tmp_path)) == 20


async def test_a_cancelled_put_leaves_the_others(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    given_up = asyncio.create_task(spool.put(outcome()))
    other = asyncio.create_task(spool.put(outcome("j2")))
    await asyncio.sleep(0)
    given_up.cancel()
    await other

    assert "j2" in left(tmp_path)


async def test_a_crash_at_any_byte_loses_only_what_was_not_durable(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    ends = []
    for number in range(3):
        await spool.put(outcome(f"j{number}"))
        ends.append((tmp_path / NAME).stat().st_size)
    spool.remove(outcome("j0"))
    await until(lambda: left(tmp_path) == ["j1", "j2"])
    content = (tmp_path / NAME).read_bytes()

    for size in range(len(content) + 1):
        cut = tmp_path / f"cut{size}"
        cut.mkdir()
        (cut / NAME).write_bytes(content[:size])
        whole = [f"j{number}" for number, end in enumerate(ends) if end <= size]
        expected = whole if size < len(content) else ["j1", "j2"]
        assert left(cut) == expected
        if size in (0, 1, ends[0], ends[0] + 7, ends[2] - 1, len(content)):
            after = opened(cut)
            await after.put(outcome("new"))
            assert left(cut) == sorted([*expected, "new"]), "no torn record is in the way of the next one"
        shutil.rmtree(cut)


async def test_a_block_that_a_power_failure_has_emptied_is_no_outcome(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    await spool.put(outcome())
    end = (tmp_path / NAME).stat().st_size
    await spool.put(outcome("j2"))
    content = bytearray((tmp_path / NAME).read_bytes())
    content[end + 20 : end + 40] = bytes(20)
    (tmp_path / NAME).write_bytes(content)

    assert left(tmp_path) == ["j1"]


async def test_the_files_of_earlier_versions_and_names_are_read(tmp_path: Path) -> None:
    (tmp_path / "j1.1.1.json").write_text(outcome().model_dump_json())
    (tmp_path / "j9.1.1.json").write_bytes(b'{"course": "cs1"')
    (tmp_path / "j8.1.1.new").write_text(outcome("j8").model_dump_json())
    await opened(tmp_path / "other").put(outcome("j2"))
    (tmp_path / "other" / NAME).rename(tmp_path / f"1234-{NAME}")

    spool = opened(tmp_path)
    assert [stored.job_id for stored in spool] == ["j1", "j2"]
    assert not list(tmp_path.glob("*.json")), "they are in the new file"
    assert left(tmp_path) == ["j1", "j2"]
    spool.remove(outcome())
    spool.close()
    assert left(tmp_path) == ["j2"]


async def test_a_draft_is_no_outcome(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    await spool.put(outcome())
    (tmp_path / NAME).rename((tmp_path / NAME).with_suffix(".new"))

    assert list(opened(tmp_path)) == []


@pytest.mark.parametrize("record", [b"", b'{"course": "cs1"', b"\xff", b"{}"], ids=["empty", "torn", "binary", "other"])
async def test_unreadable_records_are_skipped(tmp_path: Path, record: bytes) -> None:
    await opened(tmp_path).put(outcome("j2"))
    with (tmp_path / NAME).open("ab") as file:
        file.write(b"+%b %b\n" % (spooling._checksum(record), record))  # noqa: SLF001 - a record of another version
    await opened(tmp_path).put(outcome("j3"))

    assert left(tmp_path) == ["j2", "j3"]


async def test_the_file_does_not_grow_with_confirmed_outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "MAX_SIZE", 2000)
    spool, sizes = opened(tmp_path), set()
    await spool.put(outcome("stays"))
    for number in range(50):
        await spool.put(outcome(f"j{number}"))
        spool.remove(outcome(f"j{number}"))
        sizes.add((tmp_path / NAME).stat().st_size)
        assert "stays" in left(tmp_path)

    assert max(sizes) < 2000 + 1500
    spool.close()
    assert left(tmp_path) == ["stays"]


async def test_an_outcome_that_cannot_be_synced_raises_and_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path)
    await spool.put(outcome(stdout="older"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("broadway.grader.worker.spool.os.fdatasync", full)
        with pytest.raises(OSError, match="No space"):
            await spool.put(outcome(stdout="newer"))

    assert [stored.stdout for stored in spool] == ["older"]
    await spool.put(outcome("j2"))
    assert [stored.stdout for stored in opened(tmp_path)] == ["older", ""]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "disk", size=64 * 1024, inodes=100) as disk:
        yield disk


async def test_confirmed_outcomes_make_room_on_a_full_disk(small_disk: Path) -> None:
    spool = opened(small_disk)
    for number in range(40):
        await spool.put(outcome(f"j{number}", stdout="x" * 10_000))
        spool.remove(outcome(f"j{number}"))

    await spool.put(outcome("last"))
    with pytest.raises(OSError, match="No space"):
        await spool.put(outcome("large", stdout="x" * 100_000))
    assert left(small_disk) == ["last"]


@pytest.mark.parametrize("problem", [OSError("full"), RuntimeError("bug"), asyncio.CancelledError()], ids=type)
async def test_confirmed_outcomes_are_noted_after_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException
) -> None:
    spool = opened(tmp_path)
    await spool.put(outcome())
    await spool.put(outcome("stays"))
    write, failures = spooling._write, [problem]  # noqa: SLF001

    def fail_once(descriptor: int, data: bytes) -> None:
        write(descriptor, data)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(spooling, "_write", fail_once)
    spool.remove(outcome())
    with pytest.raises(type(problem)):
        await spool.put(outcome("j2"))

    assert left(tmp_path) == ["j1", "stays"], "no part of the failed write remains"
    await until(lambda: left(tmp_path) == ["stays"])

"""Outcomes on disk until the broker has confirmed them."""

from pathlib import Path

import pytest
from outcomes import job, outcome

from broadway.grader.worker.spool import Spool
from broadway.messages.events import JobFinished


def test_an_outcome_survives_its_process(tmp_path: Path) -> None:
    stored = outcome(stdout="ä\0\r\n\N{REPLACEMENT CHARACTER}")
    Spool(tmp_path / "deep" / "spool", JobFinished).put(stored)

    assert Spool(tmp_path / "deep" / "spool", JobFinished).get(job()) == stored


def test_an_outcome_belongs_to_one_start_of_its_job(tmp_path: Path) -> None:
    spool = Spool(tmp_path, JobFinished)
    spool.put(outcome())

    assert spool.get(job("j2")) is None
    assert spool.get(job(generation=2)) is None
    assert spool.get(job(attempt=2)) is None


def test_the_last_outcome_counts(tmp_path: Path) -> None:
    spool = Spool(tmp_path, JobFinished)
    spool.put(outcome(stdout="first"))
    spool.put(outcome(stdout="second"))

    assert [stored.stdout for stored in spool] == ["second"]


def test_a_confirmed_outcome_is_forgotten(tmp_path: Path) -> None:
    spool = Spool(tmp_path, JobFinished)
    spool.put(outcome())
    spool.put(outcome("j2"))
    spool.remove(outcome())
    spool.remove(outcome())

    assert spool.get(job()) is None
    assert [stored.job_id for stored in spool] == ["j2"]


def test_a_draft_is_no_outcome(tmp_path: Path) -> None:
    spool = Spool(tmp_path, JobFinished)
    spool.put(outcome())
    (file,) = tmp_path.iterdir()
    file.rename(file.with_suffix(".new"))

    assert spool.get(job()) is None
    assert list(spool) == []


@pytest.mark.parametrize("content", [b"", b'{"course": "cs1"', b"\xff", b"{}"])
def test_unreadable_files_are_skipped(tmp_path: Path, content: bytes) -> None:
    spool = Spool(tmp_path, JobFinished)
    spool.put(outcome("j2"))
    spool.put(outcome())
    (tmp_path / "j1.1.1.json").write_bytes(content)

    assert spool.get(job()) is None
    assert [stored.job_id for stored in spool] == ["j2"]


def test_an_outcome_that_cannot_be_written_raises_and_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, JobFinished)
    spool.put(outcome(stdout="older"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("broadway.grader.worker.spool.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        spool.put(outcome(stdout="newer"))

    assert [stored.stdout for stored in spool] == ["older"]

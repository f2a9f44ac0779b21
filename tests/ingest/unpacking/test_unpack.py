"""Archives unpacked by a process without rights, whose end and whose refusals leave nothing behind."""

import os
import stat
import zipfile
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from harness import IS_WHOLE, small_disk_at

from broadway.domain.files import FileLimits, FileRefusedError, SubmittedFile
from broadway.ingest.unpacking import child
from broadway.ingest.unpacking.unpack import Unpacker, UnpackingUnavailableError, _read, remove_leftovers

LIMITS = FileLimits()
EMPTY_DIGEST = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


async def test_the_files_of_an_archive_are_there_until_the_end(tmp_path: Path) -> None:
    with TemporaryFile() as archive:
        with zipfile.ZipFile(archive, "w") as files:
            files.writestr("src/a.c", "")
            files.writestr("b.c", "int x;")

        async with Unpacker(tmp_path).unpacked(archive, LIMITS) as unpacked:
            first, second = unpacked
            assert first.file == SubmittedFile("src/a.c", EMPTY_DIGEST, 0)
            assert second.content.read_bytes() == b"int x;"
            assert stat.S_ISREG(second.content.lstat().st_mode)
            if os.geteuid() == 0:
                assert second.content.stat().st_uid == child.NOBODY

    assert not list(tmp_path.iterdir())


async def test_a_refusal_is_the_students_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with TemporaryFile() as archive:
        with zipfile.ZipFile(archive, "w") as files:
            files.writestr("ok", "")
            files.writestr("../x", "")

        with pytest.raises(FileRefusedError, match=r"\.\./x: \.\. is not a name inside the submission"):
            async with Unpacker(tmp_path).unpacked(archive, LIMITS):
                pass

    assert not list(tmp_path.iterdir())


async def test_an_archive_of_many_entries_is_refused(tmp_path: Path) -> None:
    entries = 100_000 if IS_WHOLE else 20_000
    with TemporaryFile() as archive:
        with zipfile.ZipFile(archive, "w") as files:
            for number in range(entries):
                files.writestr(str(number), "")

        with pytest.raises(FileRefusedError, match=f"{entries} entries; a submission may have 1000 files"):
            async with Unpacker(tmp_path).unpacked(archive, LIMITS):
                pass

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("report", [b"", b'{"path": "a", "sha', b'{"path": "a"}\n'], ids=["nothing", "cut", "one"])
def test_a_program_that_dies_of_an_archive_is_a_refusal(tmp_path: Path, report: bytes) -> None:
    with pytest.raises(FileRefusedError, match="more memory or time than allowed"):
        _read(b'{"begun": true}\n' + report, tmp_path, -9)


async def test_a_program_that_does_not_begin_is_no_fault_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "__name__", "broadway.no_such_program")
    with TemporaryFile() as archive, pytest.raises(UnpackingUnavailableError, match="before it began"):
        async with Unpacker(tmp_path).unpacked(archive, LIMITS):
            pass


async def test_a_full_disk_is_no_fault_of_the_archive(tmp_path: Path) -> None:
    with small_disk_at(tmp_path / "disk", size=65536, inodes=10) as disk, TemporaryFile() as archive:
        with zipfile.ZipFile(archive, "w") as files:
            files.writestr("large", bytes(1024 * 1024))

        with pytest.raises(UnpackingUnavailableError, match="No space left"):
            async with Unpacker(disk).unpacked(archive, LIMITS):
                pass

        assert not list(disk.iterdir())


async def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    left, young, foreign = (tmp_path / name for name in ("broadway-unpack-left", "broadway-unpack-young", "other"))
    for place in (left, young, foreign):
        place.mkdir()
        (place / "0").touch()
    with TemporaryFile() as archive:
        zipfile.ZipFile(archive, "w").close()
        async with Unpacker(tmp_path).unpacked(archive, LIMITS):
            (used,) = set(tmp_path.iterdir()) - {left, young, foreign}
            for place in (left, foreign, used):
                os.utime(place, (0, 0))

            remove_leftovers(tmp_path)

            assert set(tmp_path.iterdir()) == {young, foreign, used}


async def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    read, write = os.pipe()  # an archive that never comes
    try:
        with os.fdopen(read, "rb", buffering=0) as archive, pytest.raises(FileRefusedError, match="takes longer than"):
            async with Unpacker(tmp_path, within=0.3).unpacked(_Endless(archive), LIMITS):  # type: ignore[arg-type]
                pass
    finally:
        os.close(write)


class _Endless:
    """A pipe in the place of a file."""

    def __init__(self, pipe: object) -> None:
        self._pipe = pipe

    def seek(self, _: int) -> None:
        pass

    def fileno(self) -> int:
        return self._pipe.fileno()  # type: ignore[attr-defined,no-any-return]

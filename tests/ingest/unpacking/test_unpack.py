"""Archives unpacked by a process without rights, whose end and whose refusals leave nothing behind."""

import os
import stat
import zipfile
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from broadway.domain.files import FileLimits, FileRefusedError, SubmittedFile
from broadway.ingest.unpacking import child
from broadway.ingest.unpacking.unpack import Unpacker

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


async def test_a_program_that_dies_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "__name__", "broadway.no_such_program")
    with TemporaryFile() as archive, pytest.raises(FileRefusedError, match="more memory or time than allowed"):
        async with Unpacker(tmp_path).unpacked(archive, LIMITS):
            pass


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

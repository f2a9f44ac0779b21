"""Gradescope's zips as build contexts: what is repaired, and what is refused."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from broadway.cli.autograder_zip import AutograderRefusedError, write_context

SCRIPTS = {"setup.sh": b"#!/bin/sh\n", "run_autograder": b"#!/bin/sh\n"}


def zipped(path: Path, files: dict[str, bytes], *, mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            opened.writestr(entry, content)
    return path


def context(archive: Path) -> tuple[str, dict[str, tuple[int, bytes]]]:
    target = io.BytesIO()
    top = write_context(archive, target)
    target.seek(0)
    with tarfile.open(fileobj=target) as opened:
        found = {each.name: (each.mode, content.read()) for each in opened if (content := opened.extractfile(each))}
    return top, found


def test_scripts_get_line_ends_of_unix_and_become_executable(tmp_path: Path) -> None:
    crlf = {"setup.sh": b"#!/bin/sh\r\ntrue\r\n", "run_autograder": b"#!/bin/sh\r\n", "tests/data.txt": b"a\r\n"}
    top, files = context(zipped(tmp_path / "a.zip", crlf))

    assert (top, files.pop("Dockerfile")[0]) == ("", 0o644)
    assert files == {
        "source/setup.sh": (0o755, b"#!/bin/sh\ntrue\n"),
        "source/run_autograder": (0o755, b"#!/bin/sh\n"),
        "run_autograder": (0o755, b"#!/bin/sh\n"),
        "source/tests/data.txt": (0o644, b"a\r\n"),
    }


def test_a_folder_that_holds_everything_is_left_out(tmp_path: Path) -> None:
    litter = {"__MACOSX/my/._setup.sh": b"", "my/.DS_Store": b""}
    files = {f"my/{name}": content for name, content in SCRIPTS.items()}
    top, found = context(zipped(tmp_path / "a.zip", {**files, **litter}, mode=0o100755))

    assert top == "my"
    assert found.keys() == {"Dockerfile", "run_autograder", "source/run_autograder", "source/setup.sh"}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"run_autograder": b""}, "setup.sh is missing"),
        ({"a/b/setup.sh": b"", "a/b/run_autograder": b""}, "run_autograder is missing"),
        ({**SCRIPTS, "../x": b""}, "../x"),
        ({**SCRIPTS, "/etc/passwd": b""}, "an absolute path"),
        ({**SCRIPTS, "SETUP.sh": b""}, "differ only in case"),
    ],
)
def test_an_archive_is_refused(tmp_path: Path, files: dict[str, bytes], problem: str) -> None:
    with pytest.raises(AutograderRefusedError, match=problem):
        context(zipped(tmp_path / "a.zip", files))


def test_a_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutograderRefusedError, match="is a link"):
        context(zipped(tmp_path / "a.zip", SCRIPTS, mode=stat.S_IFLNK | 0o777))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + b"\xff" * 18])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(AutograderRefusedError, match="zip"):
        context(tmp_path / "a.zip")

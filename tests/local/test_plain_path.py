"""Directories with blanks in their names, for programs that split paths at blanks."""

from pathlib import Path

import pytest

from broadway.local.engine import mount_points
from broadway.local.plain_path import plain_path
from broadway.local.processes import LocalError


def test_a_path_without_blanks_is_its_own(tmp_path: Path) -> None:
    with plain_path(tmp_path) as plain:
        assert plain == tmp_path


@pytest.mark.parametrize("name", ["a b", "a'b", 'a"b', "a$b", "a*", "Zoë"])
def test_a_path_with_a_blank_has_a_link_as_long_as_it_is_needed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with plain_path(tmp_path / name) as plain:
        assert name not in str(plain)
        (plain / "file").touch()
    assert (tmp_path / name / "file").exists()
    assert not plain.exists()


def test_temporary_files_below_a_blank_are_an_error_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a b"))
    with pytest.raises(LocalError, match="set TMPDIR"), plain_path(tmp_path / "a b"):
        pass


def test_mount_points_with_blanks_are_found() -> None:
    table = "proc /proc proc rw 0 0\ntmpfs /srv/a\\040b\\134c tmpfs rw 0 0\n"

    assert mount_points(table) == ["/proc", "/srv/a b\\c"]

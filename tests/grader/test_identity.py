"""A grader's own secret, on its disk."""

import os
import threading
from pathlib import Path

import pytest

from broadway.domain.access import SecretPrefix, is_secret
from broadway.grader.links.identity import own_secret
from broadway.service import StartError


def test_a_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    first = own_secret(tmp_path / "work", "h1")
    file = tmp_path / "work" / "h1.secret"
    assert is_secret(first, SecretPrefix.GRADER)
    assert (file.read_text(), file.stat().st_mode & 0o777) == (first, 0o600)
    assert own_secret(tmp_path / "work", "h1") == first
    assert own_secret(tmp_path / "work", "h2") != first
    assert sorted(each.name for each in file.parent.iterdir()) == ["h1.secret", "h2.secret"]


def test_threads_that_start_together_have_one_secret(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(own_secret(tmp_path, "h1"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


def test_another_content_is_refused_with_the_remedy(tmp_path: Path) -> None:
    for content in (b"", b"bwg_short", b"\xff\xfe"):
        (tmp_path / "h1.secret").write_bytes(content)
        with pytest.raises(StartError, match=r"h1\.secret"):
            own_secret(tmp_path, "h1")


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"--work-dir") as refused:
        own_secret(tmp_path / "file" / "work", "h1")
    assert os.strerror(20) in str(refused.value)

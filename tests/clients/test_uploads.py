"""Forms with files, as the client sends them."""

import resource
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from broadway.clients.uploads import form_of
from broadway.session import ClientError
from broadway.submissions_client import SubmissionsClient


@pytest.fixture
def few_open_files() -> Iterator[int]:
    """Limit the files that this process may open, and return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_submission_may_have_more_files_than_a_process_may_open(few_open_files: int, tmp_path: Path) -> None:
    files = [(f"f{number}", tmp_path / f"f{number}") for number in range(2 * few_open_files)]
    for name, path in files:
        path.write_text(name)

    with form_of(files) as form:
        request = httpx2.Request("POST", "http://127.0.0.1/", files=form)
        body = b"".join(request.stream)  # type: ignore[arg-type]

    assert int(request.headers["Content-Length"]) == len(body)
    assert body.count(b"filename=") == len(files)
    assert b"\r\n\r\nf399\r\n" in body


@pytest.mark.parametrize("name", ["a\nb", 'a"b', "a\\b", "a\x7f", "\x1b]0;x\x07"])
def test_a_name_that_would_arrive_as_another_one_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")

    with (
        SubmissionsClient.connect("http://127.0.0.1:9", course="c", token="t") as client,
        pytest.raises(ClientError, match="rename the file") as refused,
    ):
        client.submit("mp1", [(name, file)])
    assert str(refused.value).isprintable()


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="is not UTF-8; rename the file"), form_of([("a\udcff", tmp_path)]):
        pass


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"gone: No such file"), form_of([("gone", tmp_path / "gone")]):
        pass

"""Files of a submission in a job's directory: names that the API accepted, and answers that break off."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest

from broadway.domain.files import SubmittedFile
from broadway.grader.links.files import ApiFiles
from broadway.grader.ports import ContainerError
from broadway.grader.worker.file_cache import FileCache
from broadway.grader.worker.submission_files import Claim, SubmissionFiles

STAGES = [{"env": {"BROADWAY_SUBMISSION": "1"}}]
CLAIM = Claim("job")
DIGEST = sha256(b"content").hexdigest()


class Source:
    """One content, under several paths."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    async def files(self, claim: Claim) -> Sequence[SubmittedFile]:  # noqa: ARG002 - of the protocol
        return [SubmittedFile(path, DIGEST, 7) for path in self.paths]

    async def content(self, claim: Claim, sha256: str) -> AsyncGenerator[bytes]:  # noqa: ARG002 - of the protocol
        yield b"content"


async def lay_out(tmp_path: Path, *paths: str) -> Path:
    job = tmp_path / "job"
    job.mkdir()
    preparation = SubmissionFiles(Source(*paths), FileCache(tmp_path / "cache", 100)).preparation(CLAIM, STAGES)
    assert preparation is not None
    await preparation(job)
    return job / "submission"


async def test_a_grader_lays_out_names_that_only_a_later_python_knows(tmp_path: Path) -> None:
    unassigned = "src/\u0378.c"  # no character in any version of Unicode so far

    place = await lay_out(tmp_path, unassigned, "C:x")

    assert (place / unassigned).read_bytes() == (place / "C:x").read_bytes() == b"content"


@pytest.mark.parametrize("path", ["../x", "/x", "a//x", "a/../../x", "", ".", "a\0b"], ids=ascii)
async def test_a_path_outside_of_the_submission_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ContainerError, match="not a path inside the submission"):
        await lay_out(tmp_path, path)

    assert [each for each in tmp_path.rglob("*") if each.is_file() and each.parent.name != "cache"] == []


class Breaking(httpx2.AsyncByteStream):
    """A body that breaks off."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"submission": "1", "fi'
        raise httpx2.ReadError("the API was restarted")


async def test_a_list_of_files_that_breaks_off_is_read_again() -> None:
    file = {"path": "a", "size": 7, "sha256": DIGEST, "is_program": True}
    answers = [
        httpx2.Response(200, stream=Breaking()),
        httpx2.Response(503),
        httpx2.Response(200, json={"submission": "1", "files": [file]}),
    ]
    transport = httpx2.MockTransport(lambda _: answers.pop(0))
    async with httpx2.AsyncClient(transport=transport, base_url="http://api.example") as client:
        files = await ApiFiles(client, "grader").files(CLAIM)

    assert [(file.path, file.mode) for file in files] == [("a", 0o755)]

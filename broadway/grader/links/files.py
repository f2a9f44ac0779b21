"""The files of jobs, read from the API and sent to it with a job's ticket and this grader's credential."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

import httpx2
import stamina
from pydantic import ValidationError

from broadway.domain.files import PLAIN, PROGRAM, SubmittedFile
from broadway.grader.grading.artifacts import Collection
from broadway.grader.worker.submission_files import Claim, FilesUnavailableError
from broadway.messages.http import TICKET_HEADER
from broadway.messages.resources.artifacts import MAX_MORE, LeftOutView, SentArtifact, SentArtifacts
from broadway.messages.resources.submissions import JobFiles
from broadway.runtime.http_errors import why

PATIENCE = 120.0  # seconds: the API or its store may restart, and a failure would cost the job one of its starts
STORED_WITHIN = 60.0  # seconds for sending artifacts, with all attempts: a restart of the API is shorter


@dataclass(frozen=True, slots=True)
class ApiFiles:
    """Reads files of submissions over HTTP. ``name`` is the id under which this grader has taken the job."""

    client: httpx2.AsyncClient
    name: str

    async def files(self, claim: Claim) -> Sequence[SubmittedFile]:
        """Return the names and digests of the files of a job's submission; see ``FileSource``."""
        try:
            found = JobFiles.model_validate_json(await self._list(claim))
        except ValidationError as error:
            raise FilesUnavailableError("the answer of the API is not a list of files") from error
        return [
            SubmittedFile(each.path, each.sha256, each.size, PROGRAM if each.is_program else PLAIN)
            for each in found.files
        ]

    async def content(self, claim: Claim, sha256: str) -> AsyncGenerator[bytes]:
        """Yield the bytes of a file of a job's submission; see ``FileSource``."""
        async for piece in self._read(claim, f"contents/{sha256}"):
            yield piece

    async def store(self, claim: Claim, collection: Collection) -> None:
        """Store the artifacts of an execution of a job; see ``FileSource``. A repeated request changes nothing."""
        try:
            async with asyncio.timeout(STORED_WITHIN):
                async for attempt in stamina.retry_context(on=httpx2.TransportError, attempts=None, timeout=None):
                    with attempt:
                        await self._store(claim, collection)
        except TimeoutError as error:
            raise FilesUnavailableError(f"the API does not answer within {STORED_WITHIN:g} s") from error

    async def _store(self, claim: Claim, collection: Collection) -> None:
        path, files = self._path(claim, "artifacts"), list(collection.files.values())
        sent = SentArtifacts(
            files=[SentArtifact(path=each.path, stage=each.stage) for each in files],
            left_out=[LeftOutView(path=each.path, reason=each.reason) for each in collection.left_out],
            left_out_more=min(collection.left_out_more, MAX_MORE),
        )
        parts = [sent.model_dump_json().encode(), *(each.content for each in files)]
        form = [("files", (str(number), part)) for number, part in enumerate(parts)]
        query = {"attempt": claim.execution_id} if claim.ticket else {}
        answer = await self.client.post(path, params=query, files=form, headers=_evidence(claim))
        _demand_an_answer(answer)
        if answer.is_error:
            raise FilesUnavailableError(f"the API refuses: status {answer.status_code}")

    async def _list(self, claim: Claim) -> bytes:
        """Return the list of files; a broken answer is read again as a whole."""
        answer = b""
        with _answering():
            async for attempt in _attempts():
                with attempt:
                    path = self._path(claim, "submission")
                    answer = b"".join([piece async for piece in self._pieces(path, claim, 0)])
        return answer

    def _path(self, claim: Claim, part: str) -> str:
        return f"/api/v2/graders/{self.name}/jobs/{claim.job_id}/{part}"

    async def _read(self, claim: Claim, part: str) -> AsyncGenerator[bytes]:
        """Yield an answer's body; a broken answer is read again from the place where it broke."""
        path, received = self._path(claim, part), 0
        with _answering():
            async for attempt in _attempts():
                with attempt:
                    async with aclosing(self._pieces(path, claim, received)) as pieces:
                        async for piece in pieces:
                            received += len(piece)
                            yield piece

    async def _pieces(self, path: str, claim: Claim, start: int) -> AsyncGenerator[bytes]:
        headers = _evidence(claim)
        if start:
            headers["Range"] = f"bytes={start}-"
        async with self.client.stream("GET", path, headers=headers) as answer:
            _demand_an_answer(answer)
            if answer.is_error or (start and answer.status_code != httpx2.codes.PARTIAL_CONTENT):
                raise FilesUnavailableError(f"the API refuses: status {answer.status_code}")
            async for piece in answer.aiter_bytes():
                yield piece


def _evidence(claim: Claim) -> dict[str, str]:
    return {TICKET_HEADER: f"{claim.generation}:{claim.ticket}"} if claim.ticket else {}


def _demand_an_answer(answer: httpx2.Response) -> None:
    """Return if the API has carried out or refused a request.

    Raises:
        TransportError: It can do neither at the moment.
    """
    if answer.is_server_error or answer.status_code == httpx2.codes.TOO_MANY_REQUESTS:
        raise httpx2.TransportError(f"status {answer.status_code}")


def _attempts() -> AsyncIterator[stamina.Attempt]:
    return aiter(stamina.retry_context(on=httpx2.TransportError, attempts=None, timeout=PATIENCE))


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except httpx2.TransportError as error:
        raise FilesUnavailableError(f"the API does not answer: {why(error)}") from error

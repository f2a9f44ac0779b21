"""A typed client for handing in files, and for the assignments that take them: with a student's token or staff's."""

import math
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

import httpx2

from broadway.clients.changes import changes
from broadway.clients.extensions import Extensions
from broadway.clients.uploads import form_of
from broadway.messages.resources.artifacts import ArtifactsView
from broadway.messages.resources.base import MAX_PAGE
from broadway.messages.resources.ids import IdsView
from broadway.messages.resources.students import DeletionView
from broadway.messages.resources.submissions import SubmissionSummary, SubmissionView
from broadway.messages.resources.tokens import WhoAmI
from broadway.runtime.http_errors import UNSENT, why
from broadway.session import TRIES, ClientError, segment

__all__ = ["SubmissionsClient"]

UPLOAD_WITHIN = 600.0  # seconds for one piece of an upload or a download


class SubmissionsClient(Extensions):
    """A client for the submissions of one course.

    Args:
        http: A client with the server's address.
        course: The course's id.
        token: One of its tokens, or a student's own.
    """

    def submit(
        self, assignment: str, files: Sequence[tuple[str, Path]], *, student: str | None = None, key: str | None = None
    ) -> SubmissionView:
        """Hand in files, or one archive to be unpacked.

        Args:
            assignment: The assignment.
            files: The name of each file in the submission, and the file.
            student: The student or the group; staff must name it.
            key: The caller's name for the submission. Calls with the same key are one submission.

        Raises:
            ClientError: The files are refused, or a file cannot be read. Every method may raise it.
        """
        query = {"student": student} if student else {}
        headers = {**self._headers, "Idempotency-Key": key or token_hex(16)}

        def send() -> httpx2.Response:
            with form_of(files) as form:
                return self._send(
                    "POST",
                    self._path(f"assignments/{segment(assignment)}/submissions"),
                    headers,
                    params=query,
                    files=form,
                    timeout=UPLOAD_WITHIN,
                )

        return self._as(SubmissionView, self._read(self._repeated(send, TRIES)))

    def submission(self, identity: str) -> SubmissionView:
        return self._as(SubmissionView, self._request("GET", self._path(f"submissions/{segment(identity)}")))

    def watch(self, identity: str, *, within: float = math.inf) -> Iterator[SubmissionView]:
        """Yield a submission again and again until it is over, or ``within`` seconds have passed."""
        return changes(
            lambda: self.submission(identity),
            lambda submission: submission.is_over,
            within=within,
            pause=self._pause,
            waiting=self._waiting,
        )

    def submissions(self, assignment: str, *, student: str | None = None, limit: int = 50) -> list[SubmissionSummary]:
        """Return the latest submissions for an assignment, latest first; with a student's token that student's."""
        path = self._path(f"assignments/{segment(assignment)}/submissions")
        pages = self._pages(path, student=student, limit=min(limit, MAX_PAGE))
        return [self._as(SubmissionSummary, item) for item in islice(pages, limit)]

    def download(self, identity: str, file: str | None, target: Path) -> None:
        """Write a file of a submission, or a zip of all its files, to a new file.

        Raises:
            ClientError: The target exists or cannot be written.
        """
        below = f"submissions/{segment(identity)}"
        self._write(self._path(f"{below}/archive" if file is None else f"{below}/files/{_segments(file)}"), target)

    def export_student(self, student: str, target: Path) -> None:
        """Write a zip of all that is stored about a student to a new file, which only its owner can read.

        Errors as for ``download``.
        """
        self._write(self._path(f"students/{_segments(student)}/export"), target, mode=0o600)

    def delete_student(self, student: str, *, reason: str = "", dry_run: bool = False) -> DeletionView:
        """Order the deletion of all that is stored about a student, or count it."""
        body = {"reason": reason, "dry_run": dry_run}
        path = self._path(f"students/{_segments(student)}/deletion")
        return self._as(DeletionView, self._request("POST", path, body))

    def student_deletion(self, student: str) -> DeletionView:
        """Return the last deletion of a student's data."""
        return self._as(DeletionView, self._request("GET", self._path(f"students/{_segments(student)}/deletion")))

    def artifacts(self, job: str, *, attempt: str | None = None) -> ArtifactsView:
        """Return the artifacts of a job, by the first digits of its id: of an attempt, or of the one that counts."""
        query = f"?attempt={segment(attempt)}" if attempt else ""
        answer = self._by_id(
            job,
            lambda found: self._request("GET", self._path(f"jobs/{found}/artifacts{query}")),
            lambda: self._as(IdsView, self._request("GET", self._path(f"ids?prefix={segment(job)}"))).jobs,
        )
        return self._as(ArtifactsView, answer)

    def download_artifact(self, job: str, file: str, target: Path, *, attempt: str | None = None) -> None:
        """Write an artifact of a job to a new file; errors as for ``download``."""
        query = f"?attempt={segment(attempt)}" if attempt else ""
        self._write(f"{self._path(f'jobs/{segment(job)}/artifacts/{_segments(file)}')}{query}", target)

    def _write(self, path: str, target: Path, *, mode: int = 0o666) -> None:
        """Write an answer to a new file, which has its name only once it is whole.

        Raises:
            ClientError: The target exists or cannot be written.
        """
        if os.path.lexists(target):
            raise _existing(target)
        draft = target.with_name(f".{target.name}.{token_hex(4)}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as output:
                self._stream(path, output)
            os.link(draft, target)  # fails if the target exists
        except FileExistsError:
            raise _existing(target) from None
        except OSError as error:
            raise ClientError(f"{target}: {error.strerror}") from error
        finally:
            draft.unlink(missing_ok=True)

    def _stream(self, path: str, output: IO[bytes]) -> None:
        try:
            with self._http.stream("GET", path, headers=self._headers, timeout=UPLOAD_WITHIN) as answer:
                if answer.is_error or answer.is_redirect:
                    answer.read()
                    self._read(answer)
                for piece in answer.iter_bytes():
                    output.write(piece)
        except UNSENT as error:
            raise ClientError(f"the server at {self._where} did not send all: {why(error)}") from error

    def student(self) -> str | None:
        """Return the student of the token; None for a token of staff."""
        return self._as(WhoAmI, self._request("GET", "/api/v2/whoami")).student

    def assignments(self) -> list[str]:
        """Return the ids of the course's assignments, in order."""
        return [str(self._part(item, "id")) for item in self._pages(self._path("assignments"), limit=MAX_PAGE)]

    def assignment(self, name: str) -> dict[str, Any]:
        """Return an assignment: its pipelines, the size of its roster, and the names of its hooks."""
        return self._with("config", self._request("GET", self._path(f"assignments/{segment(name)}")))

    def settings(self, name: str) -> dict[str, Any]:
        """Return the settings of an assignment, with their version."""
        return self._with("settings", self._request("GET", self._path(f"assignments/{segment(name)}/settings")))

    def put_assignment(self, name: str, pipelines: dict[str, Any]) -> None:
        """Store an assignment's pipelines; its settings stay."""
        self._request("PUT", self._path(f"assignments/{segment(name)}"), pipelines)

    def put_settings(self, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Replace an assignment's settings; return them with their version."""
        path = self._path(f"assignments/{segment(name)}/settings")
        return self._with("version", self._request("PUT", path, settings))


def _segments(file: str) -> str:
    return "/".join(map(segment, file.split("/")))


def _existing(target: Path) -> ClientError:
    return ClientError(f"{target} exists; remove it, or name another file")

"""Submissions: what one student or group handed in for an assignment at one time. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from broadway.domain.files import SubmittedFile


@dataclass(frozen=True, slots=True)
class Submission:
    """The files of a student or a group for an assignment.

    ``at`` is the time of the first receipt. ``digest`` is that of the names and contents, so that a repeated request is
    recognized. ``by`` is the name of the token that handed it in. ``archive`` is the name of the archive that held the
    files, or empty.
    """

    id: str
    course: str
    assignment: str
    student: str
    at: datetime
    files: Sequence[SubmittedFile]
    digest: str
    by: str = ""
    archive: str = ""

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        return sum(file.size for file in self.files)

    def file(self, path: str) -> SubmittedFile | None:
        """Return a file by its path, or None."""
        return next((file for file in self.files if file.path == path), None)


def submission_id(course: str, assignment: str, student: str, key: str) -> str:
    """Return the id of the submission that is handed in with an idempotency key, the same for each repetition."""
    return _digest("submission", course, assignment, student, key)[:24]


def digest_of_files(files: Sequence[SubmittedFile]) -> str:
    """Return a digest of the names, modes and contents of files, in any order."""
    lines = sorted(f"{file.sha256} {file.mode:o} {file.path}" for file in files)
    return _digest(*lines)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

"""Submissions: what one student or group handed in for an assignment at one time. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from broadway.domain.assignment_settings import AssignmentSettings
from broadway.domain.files import SubmittedFile
from broadway.domain.webhook import Hook, HookConfig, HookFormat, Push

UPLOADS = "@uploads/"  # the beginning of the names of hooks that stand for uploads
VARIABLE = "BROADWAY_SUBMISSION"  # the variable of a job with the id of the submission whose files it gets
STUDENT = "BROADWAY_STUDENT"  # the variable with the student, for runs over a roster and of hooks
DIRECTORY = "submission"  # the directory of the files below the job's


@dataclass(frozen=True, slots=True)
class Submission:
    """The files of a student or a group for an assignment.

    ``at`` is the time of the first receipt. ``digest`` is that of the names and contents, so that a repeated request is
    recognized. ``by`` is the name of the token that handed it in. ``archive`` is the name of the archive that held the
    files, or empty. ``due_at`` is the time at which a sweep starts its grading; None once that has begun.
    ``traceparent`` is that of the request.
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
    due_at: datetime | None = None
    traceparent: str | None = None

    @property
    def count(self) -> int:
        """The number of files."""
        return len(self.files)

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        return sum(file.size for file in self.files)

    def file(self, path: str) -> SubmittedFile | None:
        """Return a file by its path, or None."""
        return next((file for file in self.files if file.path == path), None)


@dataclass(frozen=True, slots=True)
class SubmissionHead:
    """A submission without its files, of which there may be thousands: their number, and their bytes together."""

    id: str
    assignment: str
    student: str
    at: datetime
    by: str
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class LatestSubmission:
    """The id of a student's latest submission, and the time of its receipt."""

    id: str
    at: datetime


def submission_id(course: str, assignment: str, student: str, key: str) -> str:
    """Return the id of the submission that is handed in with an idempotency key, the same for each repetition."""
    return _digest("submission", course, assignment, student, key)[:24]


def hook_of_uploads(course: str, assignment: str, settings: AssignmentSettings) -> Hook:
    """Return the hook that stands for the uploads of an assignment, so that they start runs as pushes do.

    No course can have a hook of its name, and it takes no deliveries over HTTP.
    """
    config = HookConfig.model_construct(
        assignment=assignment,
        format=HookFormat.JSON,
        secrets=(),
        only_latest=settings.only_latest,
        quota=settings.quota,
    )
    return Hook(course, f"{UPLOADS}{assignment}", config)


def push_of(submission: Submission) -> Push:
    """Return the push that stands for an upload."""
    return Push(version=submission.id, student=submission.student, env={VARIABLE: submission.id})


def submission_of(stages: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the id of the submission whose files a job gets, from its stages with merged environments, or None."""
    for stage in stages:
        env = stage.get("env")
        identity = env.get(VARIABLE) if isinstance(env, Mapping) else None
        if isinstance(identity, str) and identity:
            return identity
    return None


def student_of(stages: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the student or group that a job's stages name, or None."""
    return next((str(env[STUDENT]) for stage in stages if STUDENT in (env := stage.get("env") or {})), None)


def digest_of_files(files: Sequence[SubmittedFile]) -> str:
    """Return a digest of the names, modes and contents of files, in any order."""
    lines = sorted(f"{file.sha256} {file.mode:o} {file.path}" for file in files)
    return _digest(*lines)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

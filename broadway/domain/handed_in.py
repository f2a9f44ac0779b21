"""The work of a student that a job grades, as its environment names it: an upload or a push. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from broadway.domain.assignment import Env
from broadway.domain.submission import VARIABLE

STUDENT, SUBMITTED_AT = "BROADWAY_STUDENT", "BROADWAY_SUBMITTED_AT"

_GRADING = ("env", "student_pipeline")  # the parts of a config that grade students
_MAX_TEXT = 255  # characters of an id, and of a name


@dataclass(frozen=True, slots=True)
class HandedIn:
    """A student's or a group's work, the same for all jobs that grade it.

    ``id`` is that of the upload; a push has its first job's. ``at`` is the time of its first receipt. ``config`` is the
    digest of the part of the job's config that grades students. ``regrade`` is the regrade to which the job belongs, or
    empty: its result counts only if it is published.
    """

    id: str
    student: str
    at: datetime
    config: str = ""
    regrade: str = ""

    @classmethod
    def of(cls, env: Env, job_id: str, *, config: str, trigger: Mapping[str, Any] | None) -> Self | None:
        """Return the work that a job's environment names; None for a job without a student or a time of receipt.

        The trigger of a regrade's run names the works by job, since a push has no variable of its own.
        """
        student, at = env.get(STUDENT), _time(env.get(SUBMITTED_AT))
        cause = trigger or {}
        identity = cause.get("works", {}).get(job_id) or env.get(VARIABLE) or job_id
        if not student or at is None or max(len(student), len(identity)) > _MAX_TEXT:
            return None
        return cls(identity, student, at, config, str(cause.get("regrade") or ""))


def regrade_of(handed_in: HandedIn | None) -> str:
    """Return the id of the regrade to which a job belongs, by its work; empty for any other job."""
    return handed_in.regrade if handed_in else ""


def digest_of_config(config: Mapping[str, Any]) -> str:
    """Return the digest of the part of a config that grades students."""
    part = {key: config[key] for key in _GRADING if config.get(key) is not None}
    return hashlib.sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()


def _time(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return at if at and at.tzinfo else None

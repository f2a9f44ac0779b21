"""Callbacks: events of a course that are sent to the endpoints that its staff has registered. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

KEPT_DAYS = 30  # for which events can be replayed
MAX_REASON = 1000  # characters


class CallbackType(StrEnum):
    """The types of events."""

    JOB_FINISHED = "job.finished"
    RUN_FINISHED = "run.finished"
    GRADES_PUBLISHED = "grades.published"
    REGRADE_READY = "regrade.ready"
    HOOK_UNMATCHED = "hook.unmatched"
    PING = "ping"


@dataclass(frozen=True, slots=True)
class CallbackEvent:
    """One event. Its id is that of the fact, so that an event that is stored again is the same one.

    ``subject`` identifies the fact below its course. An event with ``is_sure`` is about a stored fact; any other was
    written before the fact was, and counts once the fact is found in the store. ``endpoint`` is the id of the only
    endpoint that gets the event; None for all endpoints that want its type.
    """

    course: str
    type: CallbackType
    subject: str
    at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)
    is_sure: bool = True
    endpoint: str | None = None

    @property
    def id(self) -> str:
        """24 hexadecimal digits, the same for each event about the same fact."""
        return hashlib.sha256(f"{self.course}/{self.type}/{self.subject}".encode()).hexdigest()[:24]

    @classmethod
    def job_finished(cls, course: str, job_id: str, generation: int, *, run_id: str, at: datetime) -> Self:
        """Return the event of a job's end, to be written before the outcome."""
        about = {"job": job_id, "generation": generation, "run": run_id}
        return cls(course, CallbackType.JOB_FINISHED, f"{job_id}:{generation}", at, about, is_sure=False)

    @classmethod
    def run_finished(cls, course: str, run_id: str, round_: int, *, at: datetime) -> Self:
        """Return the event of a run's end, to be written before the run's last state."""
        about = {"run": run_id, "round": round_}
        return cls(course, CallbackType.RUN_FINISHED, f"{run_id}:{round_}", at, about, is_sure=False)

    @classmethod
    def grades_published(cls, course: str, assignment: str, version: int, *, at: datetime, by: str) -> Self:
        """Return the event of a grade book's version that has been published."""
        url = f"/api/v2/courses/{course}/assignments/{assignment}/grades"
        data = {"assignment": assignment, "version": version, "by": by, "url": url}
        return cls(course, CallbackType.GRADES_PUBLISHED, f"{assignment}:{version}", at, data)

    @classmethod
    def regrade_ready(cls, course: str, assignment: str, regrade: str, *, at: datetime, status: str = "ready") -> Self:
        """Return the event of a regrade whose differences can be read since ``at``; a refreshed one is ready again."""
        url = f"/api/v2/courses/{course}/regrades/{regrade}"
        data = {"assignment": assignment, "regrade": regrade, "status": status, "url": url}
        # The store keeps milliseconds, and an event that is made from there must have the same id.
        return cls(course, CallbackType.REGRADE_READY, f"{regrade}:{at.isoformat(timespec='milliseconds')}", at, data)

    @classmethod
    def hook_unmatched(cls, course: str, hook: str, delivery: str, *, reason: str, at: datetime) -> Self:
        """Return the event of a delivery to a hook that fits no entry of the roster."""
        url = f"/api/v2/courses/{course}/hooks/{hook}/deliveries/{delivery}"
        data = {"hook": hook, "delivery": delivery, "reason": reason[:MAX_REASON], "url": url}
        return cls(course, CallbackType.HOOK_UNMATCHED, delivery, at, data)

    @classmethod
    def ping(cls, course: str, endpoint: str, nonce: str, *, name: str, at: datetime) -> Self:
        """Return a test event for one endpoint."""
        return cls(course, CallbackType.PING, f"{endpoint}:{nonce}", at, {"callback": name}, endpoint=endpoint)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event in the store. ``due_at`` is the time of its next step; None once its deliveries are stored."""

    event: CallbackEvent
    due_at: datetime | None
    tries: int = 0

"""Submission webhooks: the settings of hooks, and the messages and decisions of deliveries. Pure."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from broadway.domain.assignment import Env
from broadway.domain.bounds import MAX_INT, MIN_INT
from broadway.domain.course import Name
from broadway.domain.roster import RosterEntry, Student
from broadway.domain.trace import log_ids
from broadway.domain.variables import is_reserved, refused_name, undelivered

MAX_ENV = 128 * 1024  # bytes of JSON; Linux's limit for one variable of a program
BRANCH, TAG = "refs/heads/", "refs/tags/"

Secret = Annotated[str, StringConstraints(min_length=16, max_length=200)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class HookFormat(StrEnum):
    """The format of the bodies of a hook's deliveries."""

    GITHUB = "github"
    JSON = "json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Quota(_Part):
    """The number of submissions that a student may make within any period of ``seconds``."""

    submissions: int = Field(ge=1, le=1000)
    seconds: float = Field(gt=0, le=366 * 86400)


class HookConfig(_Part):
    """The settings of a hook.

    Two secrets may be valid at a time, so that a secret can be replaced without losing a delivery. ``branches`` and
    ``tags`` are patterns with ``*`` and ``?``. With ``only_latest``, a submission supersedes the student's earlier
    submissions that still wait. ``env`` names the variables that a delivery of format `json` may set.
    """

    assignment: Name
    format: HookFormat = HookFormat.GITHUB
    secrets: Annotated[tuple[Secret, ...], Field(min_length=1, max_length=2, repr=False)]
    branches: Annotated[tuple[Pattern, ...], Field(max_length=20)] = ("main", "master")
    tags: Annotated[tuple[Pattern, ...], Field(max_length=20)] = ()
    only_latest: bool = False
    quota: Quota | None = None
    env: Annotated[tuple[Pattern, ...], Field(max_length=64)] = ()

    @field_validator("env")
    @classmethod
    def _may_be_delivered(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if problem := next(filter(None, map(refused_name, names)), None):
            raise ValueError(problem)
        return names

    def takes(self, ref: str) -> bool:
        """Return whether pushes to a ref such as ``refs/heads/main`` are submissions; a front-end's always are."""
        if self.format is HookFormat.JSON:
            return True
        for prefix, patterns in ((BRANCH, self.branches), (TAG, self.tags)):
            if ref.startswith(prefix):
                return any(fnmatchcase(ref.removeprefix(prefix), pattern) for pattern in patterns)
        return False


@dataclass(frozen=True, slots=True)
class Push:
    """A submission in a delivery: a commit of a repository, or an object of a front-end.

    ``version`` distinguishes the submissions of a student: the commit, or the front-end's idempotency key. ``env`` has
    Broadway's own variables for the submission's job, and ``delivered`` those that the sender chose.
    """

    version: str
    ref: str | None = None
    student: str | None = None
    repository: str | None = None
    repository_id: int | None = None
    env: Mapping[str, Any] = field(default_factory=dict)
    delivered: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def stored(cls, fields: Mapping[str, Any]) -> Self:
        """Return a push from its stored fields; an earlier version stored all its variables together."""
        env = fields.get("env") or {}
        chosen = {name: value for name, value in env.items() if not is_reserved(name)}
        own = {name: value for name, value in env.items() if is_reserved(name)}
        return cls(**{**fields, "env": own, "delivered": {**chosen, **(fields.get("delivered") or {})}})


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook of a course. One that ``is_older`` was stored before hooks had ``env``, and has no list of variables."""

    course: str
    name: str
    config: HookConfig
    is_older: bool = False

    def refuses(self, push: Push, *, taken: Collection[str]) -> str | None:
        """Return the reason why a push may not set its variables, or None; ``taken`` are the names of other sources."""
        return undelivered(push.delivered, allowed=None if self.is_older else self.config.env, taken=taken)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that is not a submission, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ping:
    """A test of the hook by its sender."""


Message = Push | Ignored | Ping


class _Foreign(BaseModel):
    """A part of a git server's payload; keys that we do not need are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Repository(_Foreign):
    id: int = Field(ge=MIN_INT, le=MAX_INT)
    full_name: str = Field(min_length=1, max_length=300)
    clone_url: str | None = Field(default=None, max_length=1000)


class _Commit(_Foreign):
    id: str = Field(pattern=r"^[0-9a-f]{40,64}$")


class GitHubPush(_Foreign):
    """GitHub's ``push`` payload, which Gitea and Forgejo send, too."""

    ref: str = Field(min_length=1, max_length=500)
    after: str = Field(pattern=r"^[0-9a-f]{40,64}$")
    deleted: bool = False
    head_commit: _Commit | None = None
    repository: _Repository

    def read(self) -> Message:
        """Return the submission. ``after`` may be the id of a tag object, so a tag's commit is its head."""
        if self.deleted or set(self.after) == {"0"}:
            return Ignored(f"{self.ref} was deleted")
        commit = self.head_commit.id if self.head_commit and self.ref.startswith(TAG) else self.after
        url = {"BROADWAY_REPOSITORY": self.repository.clone_url} if self.repository.clone_url else {}
        return Push(
            version=commit,
            ref=self.ref,
            repository=self.repository.full_name,
            repository_id=self.repository.id,
            env={"BROADWAY_COMMIT": commit, "BROADWAY_REF": self.ref, **url},
        )


class JsonSubmission(BaseModel):
    """The body of a delivery to a hook of format `json`, for front-ends other than git servers.

    ``student`` or ``group`` names the submitter. ``idempotency_key`` is the front-end's name for the submission;
    deliveries of one submitter with the same key are one submission. ``artifact_url`` is for stages to fetch; Broadway
    itself never fetches it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    student: Student | None = None
    group: Student | None = None
    idempotency_key: str = Field(min_length=1, max_length=255)
    assignment: str | None = Field(default=None, max_length=1000)
    ref: str | None = Field(default=None, min_length=1, max_length=500)
    artifact_url: str | None = Field(default=None, pattern=r"^https?://", max_length=2000)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    env: Env = {}

    @field_validator("env")
    @classmethod
    def _small(cls, env: Env) -> Env:
        size = len(json.dumps(env).encode())
        if size > MAX_ENV:
            raise ValueError(f"should have at most {MAX_ENV} bytes as JSON, not {size}")
        return env

    @model_validator(mode="after")
    def _has_one_submitter(self) -> Self:
        if (self.student is None) is (self.group is None):
            raise ValueError("expected either student or group")
        return self

    @model_validator(mode="after")
    def _checkable(self) -> Self:
        if self.artifact_url and not self.sha256:
            raise ValueError("sha256: an artifact_url needs the hash of its content")
        return self

    @property
    def submitter(self) -> str:
        """The student or the group, by its name in the roster."""
        return self.student or self.group or ""

    @property
    def delivery_id(self) -> str:
        """The id of a delivery without an own one; no two submitters can have the same."""
        return f"{quote(self.submitter, safe='', errors='surrogatepass')}/{self.idempotency_key}"

    def read(self) -> Push:
        own = {
            "BROADWAY_REF": self.ref,
            "BROADWAY_ARTIFACT_URL": self.artifact_url,
            "BROADWAY_ARTIFACT_SHA256": self.sha256,
        }
        named = {key: value for key, value in own.items() if value is not None}
        return Push(self.idempotency_key, self.ref, self.submitter, env=named, delivered=self.env)


class DeliveryState(StrEnum):
    """The state of a delivery."""

    RECEIVED = "received"  # stored, not decided yet
    ACCEPTED = "accepted"  # has a run
    DUPLICATE = "duplicate"  # an earlier delivery started the run of this submission
    SUPERSEDED = "superseded"  # a later submission of the student was accepted first
    IGNORED = "ignored"  # not a submission by the hook's settings
    UNMATCHED = "unmatched"  # the student or the repository is not in the roster
    LIMITED = "limited"  # the student's quota is used up
    REFUSED = "refused"  # the assignment does not allow such a submission


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery to a hook, which may have arrived several times.

    ``received_at`` is the time of its first arrival, and the submission's time. Until ``due_at`` one process has it;
    from then on any process may claim and decide it. It is None once the delivery is decided.
    """

    id: str
    course: str
    hook: str
    assignment: str
    delivery_id: str
    received_at: datetime
    state: DeliveryState
    push: Push | None = None
    student: str | None = None
    run_id: str | None = None
    reason: str = ""
    retry_at: datetime | None = None
    due_at: datetime | None = None
    times: int = 1
    body: str | None = None
    traceparent: str | None = None

    @property
    def is_final(self) -> bool:
        """True if a redelivery cannot change the decision; an ignored push may match a hook's changed patterns."""
        if self.state is DeliveryState.IGNORED:
            return self.push is None
        return self.state in (DeliveryState.ACCEPTED, DeliveryState.DUPLICATE, DeliveryState.SUPERSEDED)

    @property
    def is_deferred(self) -> bool:
        """True if the process that stored it had no room for it, so that it was due at once."""
        return self.due_at == self.received_at

    @property
    def context(self) -> dict[str, str]:
        """The ids of the delivery in log lines."""
        ids = {"course": self.course} | ({"run": self.run_id} if self.run_id else {})
        return log_ids(self.traceparent, **ids)


def delivery_key(course: str, hook: str, delivery_id: str) -> str:
    """Return the id of a delivery, the same for each arrival."""
    return _digest(course, hook, delivery_id)[:24]


def submission_key(assignment: str, student: str, version: str, *, beginning: int = 1) -> str:
    """Return a submission's idempotency key within its course; clients cannot send keys that begin with NUL.

    ``beginning`` counts the runs of one version: a discarded one may be submitted again.
    """
    parts = [assignment, student, version] if beginning == 1 else [assignment, student, version, str(beginning)]
    return f"\x00hook:{_digest(*parts)}"


def quota_key(course: str, assignment: str, student: str) -> str:
    return _digest(course, assignment, student)[:24]


def job_env(entry: RosterEntry | None, push: Push, delivery: Delivery, student: str) -> Env:
    """Return the environment of a submission's job; a later source takes precedence.

    The sources are the sender's variables, the student's in the roster, and Broadway's own.
    """
    return {
        **push.delivered,
        **(entry.env if entry else {}),
        **push.env,
        "BROADWAY_STUDENT": student,
        "BROADWAY_SUBMITTED_AT": delivery.received_at.isoformat(),
    }


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

"""A typed client of the HTTP interface, for course staff and scripts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import httpx2
from pydantic import BaseModel, Field

from broadway.messages.resources.access import JoinTokenRequest
from broadway.messages.resources.base import MAX_PAGE, Body
from broadway.messages.resources.graders import GraderView
from broadway.messages.resources.ids import IdsView
from broadway.messages.resources.jobs import AttemptView, JobSummary, JobView, LogView
from broadway.messages.resources.reports import ReportView
from broadway.messages.resources.runs import (
    Cancellation,
    JobRerun,
    OrderView,
    PhaseView,
    Rerun,
    RunDetail,
    TriggerView,
)
from broadway.session import ClientError, Session, Waiting, opened, segment, silently

__all__ = ["Client", "ClientError", "Operator"]

SEARCHED = 4 * MAX_PAGE  # deliveries among which the beginning of an id is looked for
_WITHOUT_RUN = (422, 429)  # statuses of a delivery that was decided and started no run


class JobDescription(JobSummary):
    """One job of a run. An older server sends no times."""

    queued_at: datetime | None = None  # type: ignore[assignment]
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class RunDescription(RunDetail):
    """A run, its phases and its jobs, which have pages of their own. An older server sends neither reason nor phases.

    The fields that this class excludes are omitted from its JSON.
    """

    round: int = Field(default=1, exclude=True)
    students: int | None = Field(default=None, exclude=True)
    trigger: TriggerView | None = Field(default=None, exclude=True)
    reason: str = ""
    phases: list[PhaseView] = Field(default_factory=list)
    jobs: list[JobDescription]


class GraderDescription(GraderView):
    """One grader, for operators. An older server sends no runtime, and knows no secrets of graders.

    ``state`` is its actual state (online, paused, draining, drained, gone or revoked), ``wanted`` the ordered one.
    """

    runtime: str = ""
    has_secret: bool = False


class JobLog(BaseModel):
    """The output of a job."""

    stdout: str
    stderr: str


class Worker(BaseModel):
    """One grader, as v1 describes it."""

    hostname: str
    jobs_processed: int
    busy: bool
    alive: bool


class Client(Session):
    """A client for one course.

    Args:
        http: A client with the server's address.
        course: The course's id.
        token: One of its tokens.
    """

    def __init__(self, http: httpx2.Client, *, course: str, token: str, waiting: Waiting = silently) -> None:
        super().__init__(http, token=token, waiting=waiting)
        self._course = segment(course)

    @classmethod
    @contextmanager
    def connect(
        cls, server: str, *, course: str, token: str, ca_file: Path | None = None, waiting: Waiting = silently
    ) -> Iterator[Self]:
        """Connect to the server at an address such as ``http://127.0.0.1:1470``.

        ``ca_file`` has authorities to trust besides the system's; ``waiting`` as for ``Session``.
        """
        with opened(server, ca_file) as http:
            yield cls(http, course=course, token=token, waiting=waiting)

    def register(self, assignment: str, config: dict[str, Any]) -> None:
        """Store an assignment's pipelines.

        Raises:
            ClientError: The server refuses the request or cannot be reached. Every method may raise it.
        """
        self._request("POST", f"/api/v1/grading_config/{self._course}/{segment(assignment)}", config)

    def submit(self, assignment: str, request: dict[str, Any], *, key: str | None = None) -> str:
        """Start a run, and return its id.

        ``request`` has ``students_env``, and optionally the environments of pre- and post-processing. Submissions with
        the same ``key``, which the caller chooses, start one run.
        """
        path = f"/api/v1/grading_run/{self._course}/{segment(assignment)}"
        answer = self._request("POST", path, request, {"Idempotency-Key": key} if key else {})
        return str(self._part(answer, "data", "grading_run_id"))

    def run(self, run_id: str) -> RunDescription:
        """Return a run with all its jobs, in pages if the server has pages."""
        return self._by_id(run_id, self._run, self._runs(run_id))

    def _run(self, run: str) -> RunDescription:
        answer = self._request("GET", self._path(f"runs/{run}"))
        if "jobs" not in answer:  # an older server sends them with the run
            answer = {**answer, "jobs": list(self._items(f"runs/{run}/jobs", limit=MAX_PAGE))}
        return self._as(RunDescription, answer)

    def cancel_run(self, run_id: str, *, reason: str | None = None) -> OrderView:
        """Cancel a run: waiting jobs never start, running ones are killed."""
        return self._order_run(run_id, "cancel", _cancellation(reason))

    def rerun_run(self, run_id: str, *, failed: bool = False, with_current_config: bool = False) -> OrderView:
        """Run the jobs of a run again, or only those that have not succeeded, and then the phases after them.

        The run's own config is used, or from now on the assignment's current one.
        """
        body = Rerun(jobs="failed" if failed else "all", **_config(is_current=with_current_config))
        return self._order_run(run_id, "rerun", body)

    def cancel_job(self, job_id: str, *, reason: str | None = None) -> OrderView:
        """Cancel one job; its run continues without it."""
        return self._order_job(job_id, "cancel", _cancellation(reason))

    def rerun_job(self, job_id: str, *, with_current_config: bool = False) -> OrderView:
        """Run one job again, and then the phases after it, as ``rerun_run`` does."""
        return self._order_job(job_id, "rerun", JobRerun(**_config(is_current=with_current_config)))

    def _order_run(self, run_id: str, verb: str, body: Body) -> OrderView:
        return self._by_id(run_id, lambda run: self._order(f"runs/{run}/{verb}", body), self._runs(run_id))

    def _order_job(self, job_id: str, verb: str, body: Body) -> OrderView:
        return self._by_id(job_id, lambda job: self._order(f"jobs/{job}/{verb}", body), self._jobs(job_id))

    def _runs(self, prefix: str) -> Callable[[], list[str]]:
        """Return a function that asks for the runs whose ids begin with ``prefix``."""
        return lambda: self._as(IdsView, self._request("GET", self._path(f"ids?{urlencode({'prefix': prefix})}"))).runs

    def _jobs(self, prefix: str) -> Callable[[], list[str]]:
        return lambda: self._as(IdsView, self._request("GET", self._path(f"ids?{urlencode({'prefix': prefix})}"))).jobs

    def _order(self, path: str, body: Body | None = None) -> OrderView:
        payload = body.model_dump(exclude_unset=True) if body else {}
        return self._as(OrderView, self._request("POST", self._path(path), payload))

    def hooks(self) -> list[dict[str, Any]]:
        """Return the course's hooks, as v2 describes them."""
        return list(self._items("hooks"))

    def put_hook(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """Create or change a hook."""
        hook = self._request("PUT", self._path(f"hooks/{segment(name)}"), config)
        self._part(hook, "url")
        return hook

    def delete_hook(self, name: str) -> None:
        self._request("DELETE", self._path(f"hooks/{segment(name)}"))

    def deliveries(self, hook: str, *, state: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Return the latest deliveries of a hook, latest first."""
        return list(
            islice(self._items(f"hooks/{segment(hook)}/deliveries", state=state, limit=min(limit, MAX_PAGE)), limit)
        )

    def every_delivery(self, hook: str, *, state: str | None) -> list[dict[str, Any]]:
        """Return all deliveries of a hook, oldest first."""
        return list(self._items(f"hooks/{segment(hook)}/deliveries", state=state, limit=MAX_PAGE))[::-1]

    def delivery(self, hook: str, delivery: str) -> dict[str, Any]:
        below = f"hooks/{segment(hook)}/deliveries"
        return self._by_id(
            delivery, lambda each: self._request("GET", self._path(f"{below}/{each}")), lambda: self._latest_of(hook)
        )

    def _latest_of(self, hook: str) -> list[str]:
        """Return the ids of a hook's latest deliveries, among which the beginning of an id is looked for."""
        return [str(each.get("id")) for each in self.deliveries(hook, limit=SEARCHED)]

    def redeliver(self, hook: str, delivery: str) -> tuple[str, bool]:
        """Decide a delivery again; return its state or the reason of a refusal, and whether it has a run."""
        try:
            below = f"hooks/{segment(hook)}/deliveries"
            decision = self._by_id(
                delivery,
                lambda each: self._request("POST", self._path(f"{below}/{each}/redeliver")),
                lambda: self._latest_of(hook),
            )
        except ClientError as error:
            if error.status not in _WITHOUT_RUN:
                raise
            return str(error), False
        return str(self._part(decision, "state")), bool(self._part(decision, "run"))

    def roster(self, assignment: str) -> dict[str, Any]:
        roster = self._request("GET", self._path(f"assignments/{segment(assignment)}/roster"))
        self._list(roster, "students")
        return roster

    def put_roster(self, assignment: str, roster: dict[str, Any]) -> None:
        """Replace an assignment's roster."""
        self._request("PUT", self._path(f"assignments/{segment(assignment)}/roster"), roster)

    def tokens(self) -> list[dict[str, Any]]:
        """Return the course's named tokens, latest first; those of the course config are not among them."""
        return list(self._items("tokens"))

    def add_token(self, name: str, *, kind: str = "staff", days: int | None = None) -> dict[str, Any]:
        """Make a token of kind ``staff`` or ``query``; ``token`` has the secret, and no later answer does."""
        return self._request("POST", self._path("tokens"), {"name": name, "kind": kind, "expires_in_days": days})

    def revoke_token(self, identity: str) -> None:
        self._request("DELETE", self._path(f"tokens/{identity}"))

    def student_tokens(self, student: str | None = None) -> list[dict[str, Any]]:
        """Return the tokens of the course's students, or of one, latest first."""
        return list(self._items("student-tokens", student=student))

    def add_student_token(self, student: str, *, name: str | None = None, days: int | None = None) -> dict[str, Any]:
        """Make a token of a student of a roster; ``token`` has the secret, and no later answer does."""
        return self._request(
            "POST", self._path("student-tokens"), {"student": student, "name": name, "expires_in_days": days}
        )

    def revoke_student_token(self, identity: str) -> None:
        self._request("DELETE", self._path(f"student-tokens/{identity}"))

    def audit(self, *, name: str | None = None, operation: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Return the latest records of actions on the course, latest first."""
        return list(islice(self._items("audit", name=name, operation=operation, limit=min(limit, MAX_PAGE)), limit))

    def _path(self, rest: str) -> str:
        return f"/api/v2/courses/{self._course}/{rest}"

    def _items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        return self._pages(self._path(path), **query)

    def job_log(self, job_id: str) -> JobLog:
        path = f"/api/v1/grading_job_log/{self._course}"
        answer = self._by_id(job_id, lambda job: self._request("GET", f"{path}/{job}"), self._jobs(job_id))
        return self._as(JobLog, self._part(answer, "data"))

    def job(self, job_id: str) -> JobView:
        """Return a job with its attempts and stages."""
        answer = self._by_id(job_id, lambda job: self._request("GET", self._path(f"jobs/{job}")), self._jobs(job_id))
        return self._as(JobView, answer)

    def report(self, job_id: str, *, attempt: str | None = None, view: str | None = None) -> ReportView:
        """Return the report of a job's attempt; ``view`` is ``student`` for the student's view."""
        query = urlencode({key: value for key, value in (("attempt", attempt), ("view", view)) if value})
        answer = self._by_id(
            job_id, lambda job: self._request("GET", self._path(f"jobs/{job}/report?{query}")), self._jobs(job_id)
        )
        return self._as(ReportView, answer)

    def attempts(self, job_id: str) -> list[AttemptView]:
        """Return the attempts of a job, oldest first."""
        answer = self._by_id(
            job_id, lambda job: self._request("GET", self._path(f"jobs/{job}/attempts")), self._jobs(job_id)
        )
        return [self._as(AttemptView, item) for item in self._list(answer, "items")]

    def attempt_log(self, job_id: str, attempt: str) -> LogView:
        """Return the log of one attempt of a job by line."""
        answer = self._by_id(
            job_id,
            lambda job: self._request("GET", self._path(f"jobs/{job}/log?{urlencode({'attempt': attempt})}")),
            self._jobs(job_id),
        )
        return self._as(LogView, answer)

    def workers(self) -> list[Worker]:
        answer = self._request("GET", f"/api/v1/worker/{self._course}/all")
        return [self._as(Worker, worker) for worker in self._list(answer, "data", "worker_nodes")]


class Operator(Session):
    """A client for operators: graders, join tokens, pools and dead letters.

    Args:
        http: A client with the server's address.
        token: The operators' token.
    """

    @classmethod
    @contextmanager
    def connect(
        cls, server: str, *, token: str, ca_file: Path | None = None, waiting: Waiting = silently
    ) -> Iterator[Self]:
        """Connect to the server at an address such as ``http://127.0.0.1:1470``; the rest as for ``Client``."""
        with opened(server, ca_file) as http:
            yield cls(http, token=token, waiting=waiting)

    def graders(self) -> list[GraderDescription]:
        """Return every grader that ever joined.

        Raises:
            ClientError: The server refuses the request or cannot be reached. Every method may raise it.
        """
        answer = self._request("GET", "/api/v2/graders")
        return [self._as(GraderDescription, each) for each in self._list(answer, "graders")]

    def grader(self, grader_id: str) -> GraderDescription:
        return self._as(GraderDescription, self._request("GET", f"/api/v2/graders/{segment(grader_id)}"))

    def order(self, grader_id: str, verb: str, **parameters: Any) -> GraderDescription:
        """Order a grader to ``pause``, ``resume`` or ``drain``; ``revoke`` or ``readmit`` it; change its ``slots``.

        ``forget-secret`` lets it make a new secret at its next join.
        """
        return self._as(
            GraderDescription, self._request("POST", f"/api/v2/graders/{segment(grader_id)}/{verb}", parameters)
        )

    def make_join_token(
        self, *, pools: list[str] | None, uses: int | None, valid_for: int | None, name: str = ""
    ) -> dict[str, Any]:
        """Make a join token; None stands for no limit, ``valid_for`` is in seconds. ``token`` has the secret."""
        about = JoinTokenRequest.model_construct(name=name, pools=pools, uses=uses, valid_for=valid_for)
        return self._request("POST", "/api/v2/join-tokens", about.model_dump())

    def join_tokens(self) -> list[dict[str, Any]]:
        """Return the join tokens, latest first."""
        return list(self._request("GET", "/api/v2/join-tokens")["tokens"])

    def revoke_join_token(self, identity: str) -> None:
        self._request("DELETE", f"/api/v2/join-tokens/{identity}")

    def pools(self) -> list[dict[str, Any]]:
        """Return the pools of courses, of graders, and of settings, by name."""
        return list(self._request("GET", "/api/v2/pools")["pools"])

    def set_pool(self, pool: str, *, original_graders: bool) -> dict[str, Any]:
        """Let a pool admit graders without secrets, or refuse them."""
        return self._request("PUT", f"/api/v2/pools/{pool}", {"original_graders": original_graders})

    def audit(
        self,
        *,
        course: str | None = None,
        name: str | None = None,
        operation: str | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Return the latest records of the audit log, latest first."""
        query = {"course": course, "name": name, "operation": operation, "limit": min(limit, MAX_PAGE)}
        return list(islice(self._pages("/api/v2/audit", **query), limit))

    def dead_letters(self, *, limit: int = MAX_PAGE) -> list[dict[str, Any]]:
        """Return the latest dead letters, latest first."""
        return self._list(self._request("GET", f"/api/v2/dead-letters?limit={limit}"), "items")

    def dead_letter(self, letter: str) -> dict[str, Any]:
        return self._by_id(letter, lambda each: self._request("GET", f"/api/v2/dead-letters/{each}"), self._letters)

    def _letters(self) -> list[str]:
        return [str(each.get("id")) for each in self.dead_letters()]

    def discard(self, letter: str) -> None:
        """Discard a dead letter."""
        self._by_id(letter, lambda each: self._request("DELETE", f"/api/v2/dead-letters/{each}"), self._letters)


def _config(*, is_current: bool) -> dict[str, Any]:
    """The field of a rerun's body; an older server knows only its default."""
    return {"config": "current"} if is_current else {}


def _cancellation(reason: str | None) -> Cancellation:
    """Return an unvalidated request, which the server validates. Without a reason the server's default applies."""
    return Cancellation.model_construct(reason=reason) if reason else Cancellation()

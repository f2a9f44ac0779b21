"""A typed client of the HTTP interface, for course staff and scripts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx2
from pydantic import BaseModel, Field

from broadway.messages.resources.base import MAX_PAGE, Body
from broadway.messages.resources.graders import GraderView
from broadway.messages.resources.jobs import AttemptView, JobSummary, LogView
from broadway.messages.resources.runs import (
    Cancellation,
    JobRerun,
    OrderView,
    PhaseView,
    Rerun,
    RunDetail,
    TriggerView,
)
from broadway.runtime.tls import trust

_WITHOUT_RUN = (422, 429)  # statuses of a delivery that was decided and started no run


class ClientError(Exception):
    """The server refused a request or cannot be reached; the text has the reason, with advice."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class JobDescription(JobSummary):
    """One job of a run. An older server sends no times."""

    queued_at: datetime | None = None  # type: ignore[assignment]
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class RunDescription(RunDetail):
    """A run, its phases and its jobs. An older server sends neither a reason nor phases.

    The fields that this class excludes are omitted from its JSON.
    """

    round: int = Field(default=1, exclude=True)
    students: int | None = Field(default=None, exclude=True)
    trigger: TriggerView | None = Field(default=None, exclude=True)
    reason: str = ""
    phases: list[PhaseView] = Field(default_factory=list)
    jobs: list[JobDescription]  # type: ignore[assignment]


class GraderDescription(GraderView):
    """One grader, for operators. An older server sends no runtime.

    ``state`` is its actual state (online, paused, draining, drained, gone or revoked), ``wanted`` the ordered one.
    """

    runtime: str = ""


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


class _Session:
    """A session with a server: requests with a token."""

    def __init__(self, http: httpx2.Client, *, token: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"}

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, json=body, headers={**self._headers, **(headers or {})})
        except httpx2.TransportError as error:
            raise ClientError(f"no server at {self._http.base_url}: {error}; is it up, and --server right?") from error
        if response.is_error:
            raise ClientError(_refusal(response), status=response.status_code)
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer


class Client(_Session):
    """A client for one course.

    Args:
        http: A client with the server's address.
        course: The course's id.
        token: One of its tokens.
    """

    def __init__(self, http: httpx2.Client, *, course: str, token: str) -> None:
        super().__init__(http, token=token)
        self._course = course

    @classmethod
    @contextmanager
    def connect(cls, server: str, *, course: str, token: str, ca_file: Path | None = None) -> Iterator[Self]:
        """Connect to the server at an address such as ``http://127.0.0.1:1470``.

        ``ca_file`` has authorities to trust besides the system's.
        """
        with httpx2.Client(base_url=server.rstrip("/"), timeout=30, verify=trust(ca_file)) as http:
            yield cls(http, course=course, token=token)

    def register(self, assignment: str, config: dict[str, Any]) -> None:
        """Store an assignment's pipelines.

        Raises:
            ClientError: The server refuses the request or cannot be reached. Every method may raise it.
        """
        self._request("POST", f"/api/v1/grading_config/{self._course}/{assignment}", config)

    def submit(self, assignment: str, request: dict[str, Any], *, key: str | None = None) -> str:
        """Start a run, and return its id.

        ``request`` has ``students_env``, and optionally the environments of pre- and post-processing. Submissions with
        the same ``key``, which the caller chooses, start one run.
        """
        path = f"/api/v1/grading_run/{self._course}/{assignment}"
        answer = self._request("POST", path, request, {"Idempotency-Key": key} if key else {})
        run_id: str = answer["data"]["grading_run_id"]
        return run_id

    def run(self, run_id: str) -> RunDescription:
        return RunDescription.model_validate(self._request("GET", f"/api/v2/courses/{self._course}/runs/{run_id}"))

    def cancel_run(self, run_id: str, *, reason: str | None = None) -> OrderView:
        """Cancel a run: waiting jobs never start, running ones are killed."""
        return self._order(f"runs/{run_id}/cancel", _cancellation(reason))

    def rerun_run(self, run_id: str, *, failed: bool = False, with_current_config: bool = False) -> OrderView:
        """Run the jobs of a run again, or only those that have not succeeded, and then the phases after them.

        The run's own config is used, or from now on the assignment's current one.
        """
        body = Rerun(jobs="failed" if failed else "all", **_config(is_current=with_current_config))
        return self._order(f"runs/{run_id}/rerun", body)

    def cancel_job(self, job_id: str, *, reason: str | None = None) -> OrderView:
        """Cancel one job; its run continues without it."""
        return self._order(f"jobs/{job_id}/cancel", _cancellation(reason))

    def rerun_job(self, job_id: str, *, with_current_config: bool = False) -> OrderView:
        """Run one job again, and then the phases after it, as ``rerun_run`` does."""
        return self._order(f"jobs/{job_id}/rerun", JobRerun(**_config(is_current=with_current_config)))

    def _order(self, path: str, body: Body | None = None) -> OrderView:
        payload = body.model_dump(exclude_unset=True) if body else {}
        return OrderView.model_validate(self._request("POST", self._path(path), payload))

    def hooks(self) -> list[dict[str, Any]]:
        """Return the course's hooks, as v2 describes them."""
        return list(self._items("hooks"))

    def put_hook(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """Create or change a hook."""
        return self._request("PUT", self._path(f"hooks/{name}"), config)

    def delete_hook(self, name: str) -> None:
        self._request("DELETE", self._path(f"hooks/{name}"))

    def deliveries(self, hook: str, *, state: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Return the latest deliveries of a hook, latest first."""
        return list(islice(self._items(f"hooks/{hook}/deliveries", state=state, limit=min(limit, MAX_PAGE)), limit))

    def every_delivery(self, hook: str, *, state: str | None) -> list[dict[str, Any]]:
        """Return all deliveries of a hook, oldest first."""
        return list(self._items(f"hooks/{hook}/deliveries", state=state, limit=MAX_PAGE))[::-1]

    def delivery(self, hook: str, delivery: str) -> dict[str, Any]:
        return self._request("GET", self._path(f"hooks/{hook}/deliveries/{delivery}"))

    def redeliver(self, hook: str, delivery: str) -> tuple[str, bool]:
        """Decide a delivery again; return its state or the reason of a refusal, and whether it has a run."""
        try:
            decision = self._request("POST", self._path(f"hooks/{hook}/deliveries/{delivery}/redeliver"))
        except ClientError as error:
            if error.status not in _WITHOUT_RUN:
                raise
            return str(error), False
        return str(decision["state"]), bool(decision["run"])

    def roster(self, assignment: str) -> dict[str, Any]:
        return self._request("GET", self._path(f"assignments/{assignment}/roster"))

    def put_roster(self, assignment: str, roster: dict[str, Any]) -> None:
        """Replace an assignment's roster."""
        self._request("PUT", self._path(f"assignments/{assignment}/roster"), roster)

    def _path(self, rest: str) -> str:
        return f"/api/v2/courses/{self._course}/{rest}"

    def _items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield all items of a list, page by page."""
        parameters = {key: value for key, value in query.items() if value is not None}
        while True:
            page = self._request(
                "GET", f"{self._path(path)}?{urlencode(parameters)}" if parameters else self._path(path)
            )
            yield from page["items"]
            if page["next"] is None:
                return
            parameters["after"] = page["next"]

    def job_log(self, job_id: str) -> JobLog:
        return JobLog.model_validate(self._request("GET", f"/api/v1/grading_job_log/{self._course}/{job_id}")["data"])

    def attempts(self, job_id: str) -> list[AttemptView]:
        """Return the attempts of a job, oldest first."""
        return [
            AttemptView.model_validate(item)
            for item in self._request("GET", self._path(f"jobs/{job_id}/attempts"))["items"]
        ]

    def attempt_log(self, job_id: str, attempt: str) -> LogView:
        """Return the log of one attempt of a job by line."""
        return LogView.model_validate(self._request("GET", self._path(f"jobs/{job_id}/log?attempt={quote(attempt)}")))

    def workers(self) -> list[Worker]:
        answer = self._request("GET", f"/api/v1/worker/{self._course}/all")
        return [Worker.model_validate(worker) for worker in answer["data"]["worker_nodes"]]


class Operator(_Session):
    """A client for operators, with the cluster token: graders and dead letters.

    Args:
        http: A client with the server's address.
        token: The cluster token.
    """

    @classmethod
    @contextmanager
    def connect(cls, server: str, *, token: str, ca_file: Path | None = None) -> Iterator[Self]:
        """Connect to the server at an address such as ``http://127.0.0.1:1470``; ``ca_file`` as for ``Client``."""
        with httpx2.Client(base_url=server.rstrip("/"), timeout=30, verify=trust(ca_file)) as http:
            yield cls(http, token=token)

    def graders(self) -> list[GraderDescription]:
        """Return every grader that ever joined.

        Raises:
            ClientError: The server refuses the request or cannot be reached. Every method may raise it.
        """
        answer = self._request("GET", "/api/v2/graders")
        return [GraderDescription.model_validate(each) for each in answer["graders"]]

    def grader(self, grader_id: str) -> GraderDescription:
        return GraderDescription.model_validate(self._request("GET", f"/api/v2/graders/{grader_id}"))

    def order(self, grader_id: str, verb: str, **parameters: Any) -> GraderDescription:
        """Order a grader to ``pause``, ``resume`` or ``drain``; ``revoke`` or ``readmit`` it; change its ``slots``."""
        return GraderDescription.model_validate(
            self._request("POST", f"/api/v2/graders/{grader_id}/{verb}", parameters)
        )

    def dead_letters(self, *, limit: int = MAX_PAGE) -> list[dict[str, Any]]:
        """Return the latest dead letters, latest first."""
        return list(self._request("GET", f"/api/v2/dead-letters?limit={limit}")["items"])

    def dead_letter(self, letter: str) -> dict[str, Any]:
        return self._request("GET", f"/api/v2/dead-letters/{letter}")

    def discard(self, letter: str) -> None:
        """Discard a dead letter."""
        self._request("DELETE", f"/api/v2/dead-letters/{letter}")


def _config(*, is_current: bool) -> dict[str, Any]:
    """The field of a rerun's body; an older server knows only its default."""
    return {"config": "current"} if is_current else {}


def _cancellation(reason: str | None) -> Cancellation:
    """Return an unvalidated request, which the server validates. Without a reason the server's default applies."""
    return Cancellation.model_construct(reason=reason) if reason else Cancellation()


def _refusal(response: httpx2.Response) -> str:
    """Return the server's message, from any of its envelopes."""
    try:
        body = response.json()
    except ValueError:
        return f"status {response.status_code}"
    data = body.get("data")
    message = data.get("message") if isinstance(data, dict) else data
    return str(message or body.get("detail") or body.get("message") or f"status {response.status_code}")

"""A typed client of the HTTP interface, for course staff and scripts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import httpx2
from pydantic import BaseModel, Field

from broadway.messages.resources.base import MAX_PAGE, Body
from broadway.messages.resources.graders import GraderView
from broadway.messages.resources.jobs import JobSummary
from broadway.messages.resources.runs import (
    Cancellation,
    OrderView,
    PhaseView,
    Rerun,
    RunDetail,
    TriggerView,
)
from broadway.runtime.tls import trust

_UNDONE = (422, 429)  # a delivery was decided, and came to nothing


class ClientError(Exception):
    """The server refused a request or cannot be reached; the text says which, and what to do."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class JobDescription(JobSummary):
    """One job of a run. An older server tells no times."""

    queued_at: datetime | None = None  # type: ignore[assignment]
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class RunDescription(RunDetail):
    """A run, its phases and its jobs. An older server tells neither a reason nor phases.

    The fields that this class excludes are not part of it when it is written as JSON.
    """

    round: int = Field(default=1, exclude=True)
    students: int | None = Field(default=None, exclude=True)
    trigger: TriggerView | None = Field(default=None, exclude=True)
    reason: str = ""
    phases: list[PhaseView] = Field(default_factory=list)
    jobs: list[JobDescription]  # type: ignore[assignment]


class GraderDescription(GraderView):
    """One grader, for operators. An older server tells no runtime.

    ``state`` is its own (online, paused, draining, drained, gone or revoked), ``wanted`` the one that was ordered.
    """

    runtime: str = ""


class JobLog(BaseModel):
    """What a job wrote."""

    stdout: str
    stderr: str


class Worker(BaseModel):
    """One grader."""

    hostname: str
    jobs_processed: int
    busy: bool
    alive: bool


class _Asking:
    """Speaks to a server with a token."""

    def __init__(self, http: httpx2.Client, *, token: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"}

    def _ask(
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


class Client(_Asking):
    """One course's view of a server.

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
        """Talk to the server at an address such as ``http://127.0.0.1:1470``.

        ``ca_file`` has authorities to trust besides the system's.
        """
        with httpx2.Client(base_url=server.rstrip("/"), timeout=30, verify=trust(ca_file)) as http:
            yield cls(http, course=course, token=token)

    def register(self, assignment: str, config: dict[str, Any]) -> None:
        """Store an assignment's pipelines.

        Raises:
            ClientError: As every method here.
        """
        self._ask("POST", f"/api/v1/grading_config/{self._course}/{assignment}", config)

    def submit(self, assignment: str, request: dict[str, Any], *, key: str | None = None) -> str:
        """Start a run; its id. ``request`` has ``students_env``, and the other two environments if wanted.

        With a ``key`` of the caller's choice it is one run however often it is submitted.
        """
        path = f"/api/v1/grading_run/{self._course}/{assignment}"
        answer = self._ask("POST", path, request, {"Idempotency-Key": key} if key else {})
        run_id: str = answer["data"]["grading_run_id"]
        return run_id

    def run(self, run_id: str) -> RunDescription:
        return RunDescription.model_validate(self._ask("GET", f"/api/v2/courses/{self._course}/runs/{run_id}"))

    def cancel_run(self, run_id: str, *, reason: str | None = None) -> OrderView:
        """End a run: jobs that wait never start, those that run are killed."""
        return self._order(f"runs/{run_id}/cancel", _cancellation(reason))

    def rerun_run(self, run_id: str, *, failed: bool = False) -> OrderView:
        """Run a run again, or only those of its jobs that have not succeeded, and then what comes after them."""
        return self._order(f"runs/{run_id}/rerun", Rerun(jobs="failed" if failed else "all"))

    def cancel_job(self, job_id: str, *, reason: str | None = None) -> OrderView:
        """End one job; its run goes on without it."""
        return self._order(f"jobs/{job_id}/cancel", _cancellation(reason))

    def rerun_job(self, job_id: str) -> OrderView:
        """Run one job again, and then what comes after it."""
        return self._order(f"jobs/{job_id}/rerun")

    def _order(self, path: str, body: Body | None = None) -> OrderView:
        told = body.model_dump(exclude_unset=True) if body else {}
        return OrderView.model_validate(self._ask("POST", self._path(path), told))

    def hooks(self) -> list[dict[str, Any]]:
        """The course's hooks, as v2 describes them."""
        return list(self._items("hooks"))

    def put_hook(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """Make or change a hook."""
        return self._ask("PUT", self._path(f"hooks/{name}"), config)

    def delete_hook(self, name: str) -> None:
        self._ask("DELETE", self._path(f"hooks/{name}"))

    def deliveries(self, hook: str, *, state: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """What a hook has received, latest first."""
        return list(islice(self._items(f"hooks/{hook}/deliveries", state=state, limit=min(limit, MAX_PAGE)), limit))

    def every_delivery(self, hook: str, *, state: str | None) -> list[dict[str, Any]]:
        """All that a hook has received, oldest first."""
        return list(self._items(f"hooks/{hook}/deliveries", state=state, limit=MAX_PAGE))[::-1]

    def delivery(self, hook: str, delivery: str) -> dict[str, Any]:
        return self._ask("GET", self._path(f"hooks/{hook}/deliveries/{delivery}"))

    def redeliver(self, hook: str, delivery: str) -> tuple[str, bool]:
        """Have a delivery decided anew: what it came to, and whether that is a run."""
        try:
            told = self._ask("POST", self._path(f"hooks/{hook}/deliveries/{delivery}/redeliver"))
        except ClientError as error:
            if error.status not in _UNDONE:
                raise
            return str(error), False
        return str(told["state"]), bool(told["run"])

    def roster(self, assignment: str) -> dict[str, Any]:
        return self._ask("GET", self._path(f"assignments/{assignment}/roster"))

    def put_roster(self, assignment: str, roster: dict[str, Any]) -> None:
        """Replace an assignment's roster."""
        self._ask("PUT", self._path(f"assignments/{assignment}/roster"), roster)

    def _path(self, rest: str) -> str:
        return f"/api/v2/courses/{self._course}/{rest}"

    def _items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page."""
        wanted = {key: value for key, value in query.items() if value is not None}
        while True:
            page = self._ask("GET", f"{self._path(path)}?{urlencode(wanted)}" if wanted else self._path(path))
            yield from page["items"]
            if page["next"] is None:
                return
            wanted["after"] = page["next"]

    def job_log(self, job_id: str) -> JobLog:
        return JobLog.model_validate(self._ask("GET", f"/api/v1/grading_job_log/{self._course}/{job_id}")["data"])

    def workers(self) -> list[Worker]:
        answer = self._ask("GET", f"/api/v1/worker/{self._course}/all")
        return [Worker.model_validate(worker) for worker in answer["data"]["worker_nodes"]]


class Operator(_Asking):
    """An operator's view of a server's graders and dead letters, with the cluster token.

    Args:
        http: A client with the server's address.
        token: The cluster token.
    """

    @classmethod
    @contextmanager
    def connect(cls, server: str, *, token: str, ca_file: Path | None = None) -> Iterator[Self]:
        """Talk to the server at an address such as ``http://127.0.0.1:1470``; ``ca_file`` as for ``Client``."""
        with httpx2.Client(base_url=server.rstrip("/"), timeout=30, verify=trust(ca_file)) as http:
            yield cls(http, token=token)

    def graders(self) -> list[GraderDescription]:
        """Every grader that ever joined.

        Raises:
            ClientError: As every method here.
        """
        answer = self._ask("GET", "/api/v2/graders")
        return [GraderDescription.model_validate(each) for each in answer["graders"]]

    def grader(self, grader_id: str) -> GraderDescription:
        return GraderDescription.model_validate(self._ask("GET", f"/api/v2/graders/{grader_id}"))

    def order(self, grader_id: str, verb: str, **wanted: Any) -> GraderDescription:
        """Have a grader ``pause``, ``resume``, ``drain``, ``revoke`` or ``readmit``, or change its ``slots``."""
        return GraderDescription.model_validate(self._ask("POST", f"/api/v2/graders/{grader_id}/{verb}", wanted))

    def dead_letters(self, *, limit: int = MAX_PAGE) -> list[dict[str, Any]]:
        """The messages that died last, latest first."""
        return list(self._ask("GET", f"/api/v2/dead-letters?limit={limit}")["items"])

    def dead_letter(self, letter: str) -> dict[str, Any]:
        return self._ask("GET", f"/api/v2/dead-letters/{letter}")

    def discard(self, letter: str) -> None:
        """Forget a dead letter."""
        self._ask("DELETE", f"/api/v2/dead-letters/{letter}")


def _cancellation(reason: str | None) -> Cancellation:
    """A request that the server checks; without a reason it gives its own."""
    return Cancellation.model_construct(reason=reason) if reason else Cancellation()


def _refusal(response: httpx2.Response) -> str:
    """What the server says, in whichever of its envelopes."""
    try:
        body = response.json()
    except ValueError:
        return f"status {response.status_code}"
    data = body.get("data")
    said = data.get("message") if isinstance(data, dict) else data
    return str(said or body.get("detail") or body.get("message") or f"status {response.status_code}")

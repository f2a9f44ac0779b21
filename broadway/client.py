"""A typed client of the HTTP interface, for course staff and scripts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import httpx2
from pydantic import BaseModel


class ClientError(Exception):
    """The server refused a request or cannot be reached; the text says which, and what to do."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class JobDescription(BaseModel):
    """One job of a run. ``seconds`` is the time in a slot, ``queue_seconds`` the time before it."""

    id: str
    phase: str
    state: str
    outcome: str | None
    reason: str
    fault_phase: str | None
    seconds: float | None
    queue_seconds: float | None
    attempts: int
    grader: str | None
    env: dict[str, Any]


class RunDescription(BaseModel):
    """A run and its jobs, in the roster's order."""

    id: str
    course: str
    assignment: str
    state: str
    started_at: str
    finished_at: str | None
    success: bool | None
    jobs: list[JobDescription]


class Ordered(BaseModel):
    """What a cancellation or a rerun did: the run's state after it, and the jobs concerned."""

    run: str
    state: str
    round: int
    jobs: list[str]


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


class Client:
    """One course's view of a server.

    Args:
        http: A client with the server's address.
        course: The course's id.
        token: One of its tokens.
    """

    def __init__(self, http: httpx2.Client, *, course: str, token: str) -> None:
        self._http = http
        self._course = course
        self._headers = {"Authorization": f"Bearer {token}"}

    @classmethod
    @contextmanager
    def connect(cls, server: str, *, course: str, token: str) -> Iterator[Self]:
        """Talk to the server at an address such as ``http://127.0.0.1:1470``."""
        with httpx2.Client(base_url=server.rstrip("/"), timeout=30) as http:
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

    def cancel_run(self, run_id: str, *, reason: str | None = None) -> Ordered:
        """End a run: jobs that wait never start, those that run are killed."""
        return self._order(f"runs/{run_id}/cancel", {"reason": reason} if reason else {})

    def rerun_run(self, run_id: str, *, failed: bool = False) -> Ordered:
        """Run a run again, or only those of its jobs that have not succeeded, and then what comes after them."""
        return self._order(f"runs/{run_id}/rerun", {"jobs": "failed" if failed else "all"})

    def cancel_job(self, job_id: str, *, reason: str | None = None) -> Ordered:
        """End one job; its run goes on without it."""
        return self._order(f"jobs/{job_id}/cancel", {"reason": reason} if reason else {})

    def rerun_job(self, job_id: str) -> Ordered:
        """Run one job again, and then what comes after it."""
        return self._order(f"jobs/{job_id}/rerun", {})

    def _order(self, path: str, body: dict[str, Any]) -> Ordered:
        return Ordered.model_validate(self._ask("POST", f"/api/v2/courses/{self._course}/{path}", body))

    def job_log(self, job_id: str) -> JobLog:
        return JobLog.model_validate(self._ask("GET", f"/api/v1/grading_job_log/{self._course}/{job_id}")["data"])

    def workers(self) -> list[Worker]:
        answer = self._ask("GET", f"/api/v1/worker/{self._course}/all")
        return [Worker.model_validate(worker) for worker in answer["data"]["worker_nodes"]]

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, json=body, headers={**self._headers, **(headers or {})})
        except httpx2.TransportError as error:
            raise ClientError(f"no server at {self._http.base_url}: {error}; is it up, and --server right?") from error
        if response.is_error:
            raise ClientError(_refusal(response), status=response.status_code)
        answer: dict[str, Any] = response.json()
        return answer


def _refusal(response: httpx2.Response) -> str:
    """What the server says, in whichever of its envelopes."""
    try:
        body = response.json()
    except ValueError:
        return f"status {response.status_code}"
    data = body.get("data")
    said = data.get("message") if isinstance(data, dict) else data
    return str(said or body.get("detail") or body.get("message") or f"status {response.status_code}")

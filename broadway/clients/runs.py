"""Runs: start, list, read and follow them, and change them."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from secrets import token_hex
from typing import Any

from pydantic import Field

from broadway.clients.changes import changes
from broadway.clients.course import CourseSession
from broadway.messages.resources.base import MAX_PAGE, Body
from broadway.messages.resources.jobs import JobSummary
from broadway.messages.resources.runs import (
    Cancellation,
    JobRerun,
    OrderView,
    PhaseView,
    Rerun,
    RunDetail,
    RunSummary,
    RunView,
    TriggerView,
)
from broadway.session import segment


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


class Runs(CourseSession):
    """Runs and their jobs."""

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

    def start(self, assignment: str, students: Sequence[str] | None = None, *, key: str | None = None) -> RunView:
        """Start a run over an assignment's roster, or over some of its students; return it.

        Students who handed in files are graded on their latest submissions. Calls with the same ``key``, which the
        caller chooses, start one run.
        """
        order = {"students": "all" if students is None else list(students)}
        path = self._path(f"assignments/{segment(assignment)}/runs")
        return self._as(RunView, self._request("POST", path, order, {"Idempotency-Key": key or token_hex(16)}))

    def runs(self, assignment: str | None = None, *, limit: int = 50) -> list[RunSummary]:
        """Return the latest runs of the course, or of one assignment, latest first."""
        pages = self._items("runs", assignment=assignment, limit=min(limit, MAX_PAGE))
        return [self._as(RunSummary, item) for item in islice(pages, limit)]

    def watch(self, run_id: str, *, within: float = math.inf) -> Iterator[RunDetail]:
        """Yield a run without its jobs, and again after each change, until it is over or ``within`` seconds end.

        A server that is away for a while interrupts nothing. Unchanged runs cost the server an answer without a body.
        """
        path, tag = "", None

        def look() -> RunDetail | None:
            nonlocal path, tag
            if not path:
                path = self._of_run(run_id, self._existing)
            answer, tag = self._changed(path, tag)
            return None if answer is None else self._as(RunDetail, answer)

        yield from changes(look, lambda run: run.is_over, within=within, pause=self._pause, waiting=self._waiting)

    def _existing(self, run: str) -> str:
        """Return the path of a run that exists."""
        path = self._path(f"runs/{run}")
        self._request("GET", path)
        return path

    def jobs(self, run_id: str, *, limit: int = MAX_PAGE) -> list[JobDescription]:
        """Return the first jobs of a run, by phase and in the roster's order."""
        return self._of_run(run_id, lambda run: self._first_jobs(run, limit))

    def _first_jobs(self, run: str, limit: int) -> list[JobDescription]:
        pages = self._items(f"runs/{run}/jobs", limit=min(limit, MAX_PAGE))
        return [self._as(JobDescription, item) for item in islice(pages, limit)]

    def run(self, run_id: str) -> RunDescription:
        """Return a run with all its jobs, in pages if the server has pages."""
        return self._of_run(run_id, self._run)

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
        return self._of_run(run_id, lambda run: self._order(f"runs/{run}/{verb}", body))

    def _order_job(self, job_id: str, verb: str, body: Body) -> OrderView:
        return self._of_job(job_id, lambda job: self._order(f"jobs/{job}/{verb}", body))

    def _order(self, path: str, body: Body | None = None) -> OrderView:
        payload = body.model_dump(exclude_unset=True) if body else {}
        return self._as(OrderView, self._request("POST", self._path(path), payload))


def _config(*, is_current: bool) -> dict[str, Any]:
    """The field of a rerun's body; an older server knows only its default."""
    return {"config": "current"} if is_current else {}


def _cancellation(reason: str | None) -> Cancellation:
    """Return an unvalidated request, which the server validates. Without a reason the server's default applies."""
    return Cancellation.model_construct(reason=reason) if reason else Cancellation()

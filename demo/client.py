"""Broadway as the course sees it: the requests of its front-end, with the course's token."""

import re
from typing import Any, Self

import httpx2

from demo.pipelines import ASSIGNMENT, COURSE

Json = dict[str, Any]

_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\S+Z ", re.MULTILINE)
_SCORE = re.compile(r"^\d+ of \d+ tests passed$", re.MULTILINE)


class BroadwayError(Exception):
    """Broadway does not answer, or refuses."""


class Broadway:
    """A course's access to a Broadway API."""

    def __init__(self, api: str, token: str) -> None:
        self._http = httpx2.Client(base_url=api, headers={"Authorization": f"Bearer {token}"}, timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def register(self, config: Json) -> None:
        """Store the assignment's pipelines."""
        self._v1("POST", f"grading_config/{COURSE}/{ASSIGNMENT}", config)

    def submit(self, request: Json) -> str:
        """Start a run, and return its id."""
        return str(self._v1("POST", f"grading_run/{COURSE}/{ASSIGNMENT}", request)["grading_run_id"])

    def status(self, run: str) -> Json:
        """The states of a run and of its jobs."""
        status: Json = self._v1("GET", f"grading_run_status/{COURSE}/{run}")
        return status

    def log(self, job: str) -> str:
        """What a job has printed, without the time stamps."""
        text = str(self._v1("GET", f"grading_job_log/{COURSE}/{job}")["stdout"])
        return _STAMP.sub("", text.replace("\r\n", "\n"))

    def run(self, run: str) -> Json:
        """All that is known of a run and of its jobs."""
        answer = self._ask("GET", f"/api/v2/courses/{COURSE}/runs/{run}")
        view: Json = answer.json()
        return view

    def students(self, run: str) -> list[Json]:
        """What became of each student of a run: `student`, `outcome`, `seconds`, `reason`, `score`."""
        return [self._row(job) for job in self.run(run)["jobs"] if job["phase"] == "students"]

    def _row(self, job: Json) -> Json:
        scores = _SCORE.findall(self._log_if_any(job["id"]))
        return {
            "student": job["env"]["STUDENT_ID"],
            "outcome": job["outcome"] or job["state"],
            "seconds": job["seconds"],
            "reason": job["reason"],
            "score": scores[-1] if scores else None,
            "attempts": job["attempts"],
            "job": job["id"],
        }

    def _log_if_any(self, job: str) -> str:
        try:
            return self.log(job)
        except BroadwayError:
            return ""

    def _v1(self, method: str, path: str, body: Json | None = None) -> Any:
        return self._ask(method, f"/api/v1/{path}", body).json()["data"]

    def _ask(self, method: str, path: str, body: Json | None = None) -> httpx2.Response:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise BroadwayError(f"{method} {path}: {error}") from error
        if answer.is_error:
            raise BroadwayError(f"{method} {path}: {answer.status_code} {answer.text[:400]}")
        return answer

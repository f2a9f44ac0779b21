"""The course's client of Broadway: the requests of a front-end, with the course's token."""

import re
from typing import Any, Self

import httpx2

from demo.pipelines import ASSIGNMENT, COURSE

Json = dict[str, Any]

PAGE = 500  # jobs in one answer
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\S+Z ", re.MULTILINE)
_SCORE = re.compile(r"^\d+ of \d+ tests passed$", re.MULTILINE)


class BroadwayError(Exception):
    """Broadway does not answer, or refuses the request."""


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
        """Return the states of a run and of its jobs."""
        status: Json = self._v1("GET", f"grading_run_status/{COURSE}/{run}")
        return status

    def log(self, job: str) -> str:
        """Return the output of a job, without the timestamps."""
        text = str(self._v1("GET", f"grading_job_log/{COURSE}/{job}")["stdout"])
        return _STAMP.sub("", text.replace("\r\n", "\n"))

    def run(self, run: str) -> Json:
        """Return a run with its jobs, as v2 describes them, from their pages."""
        path = f"/api/v2/courses/{COURSE}/runs/{run}"
        view: Json = {**self._request("GET", path).json(), "jobs": []}
        page: Json = {"next": ""}
        while page["next"] is not None:
            after = f"&after={page['next']}" if page["next"] else ""
            page = self._request("GET", f"{path}/jobs?limit={PAGE}{after}").json()
            view["jobs"] += page["items"]
        return view

    def students(self, run: str) -> list[Json]:
        """Return a row for each student of a run, with `student`, `outcome`, `seconds`, `reason` and `score`."""
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
        return self._request(method, f"/api/v1/{path}", body).json()["data"]

    def _request(self, method: str, path: str, body: Json | None = None) -> httpx2.Response:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise BroadwayError(f"{method} {path}: {error}") from error
        if answer.is_error:
            raise BroadwayError(f"{method} {path}: {answer.status_code} {answer.text[:400]}")
        return answer

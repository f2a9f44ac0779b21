"""Jobs: their attempts, logs and reports."""

from urllib.parse import urlencode

from pydantic import BaseModel

from broadway.clients.course import CourseSession
from broadway.messages.resources.jobs import AttemptView, JobView, LogView
from broadway.messages.resources.reports import ReportView


class JobLog(BaseModel):
    """The output of a job."""

    stdout: str
    stderr: str


class Jobs(CourseSession):
    """Jobs of runs."""

    def job_log(self, job_id: str) -> JobLog:
        path = f"/api/v1/grading_job_log/{self._course}"
        answer = self._of_job(job_id, lambda job: self._request("GET", f"{path}/{job}"))
        return self._as(JobLog, self._part(answer, "data"))

    def job(self, job_id: str) -> JobView:
        """Return a job with its attempts and stages."""
        answer = self._of_job(job_id, lambda job: self._request("GET", self._path(f"jobs/{job}")))
        return self._as(JobView, answer)

    def report(self, job_id: str, *, attempt: str | None = None, view: str | None = None) -> ReportView:
        """Return the report of a job's attempt; ``view`` is ``student`` for the student's view."""
        query = urlencode({key: value for key, value in (("attempt", attempt), ("view", view)) if value})
        answer = self._of_job(job_id, lambda job: self._request("GET", self._path(f"jobs/{job}/report?{query}")))
        return self._as(ReportView, answer)

    def attempts(self, job_id: str) -> list[AttemptView]:
        """Return the attempts of a job, oldest first."""
        answer = self._of_job(job_id, lambda job: self._request("GET", self._path(f"jobs/{job}/attempts")))
        return [self._as(AttemptView, item) for item in self._list(answer, "items")]

    def attempt_log(self, job_id: str, attempt: str | None = None) -> LogView:
        """Return the log of one attempt of a job by line; without an attempt, that of the one that ended the job."""
        query = f"?{urlencode({'attempt': attempt})}" if attempt else ""
        answer = self._of_job(job_id, lambda job: self._request("GET", self._path(f"jobs/{job}/log{query}")))
        return self._as(LogView, answer)

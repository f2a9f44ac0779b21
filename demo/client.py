"""The demo's course: its assignments, submissions and runs, over the API with the token of its staff."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from broadway.client import Client, ClientError, RunDescription
from broadway.messages.resources.runs import RunDetail
from broadway.messages.resources.submissions import SubmissionView
from broadway.submissions_client import SubmissionsClient
from demo.pipelines import COURSE
from demo.results import Row
from demo.submissions import Files

__all__ = ["ClientError", "Course"]

Json = dict[str, Any]

STUDENTS = "students"  # the phase of the students' jobs


class Course:
    """A course with Broadway's own clients."""

    def __init__(self, client: Client, uploads: SubmissionsClient) -> None:
        self._client = client
        self._uploads = uploads

    @classmethod
    @contextlib.contextmanager
    def connect(cls, api: str, token: str) -> Iterator["Course"]:
        """Connect to an API; every method may raise ClientError."""
        with (
            Client.connect(api, course=COURSE, token=token) as client,
            SubmissionsClient.connect(api, course=COURSE, token=token) as uploads,
        ):
            yield cls(client, uploads)

    def apply(self, assignment: str, pipelines: Json, settings: Json, students: Sequence[str]) -> None:
        """Store an assignment's pipelines, settings and roster."""
        self._uploads.put_assignment(assignment, pipelines)
        self._uploads.put_settings(assignment, settings)
        roster = {"students": [{"student": student} for student in students]}
        self._client.put_roster(assignment, roster)

    def hand_in(self, assignment: str, student: str, files: Files) -> SubmissionView:
        """Hand in a student's files."""
        return self._uploads.submit(assignment, files, student=student)

    def submission(self, identity: str) -> SubmissionView:
        return self._uploads.submission(identity)

    def start(self, assignment: str, students: Sequence[str] | None = None) -> str:
        """Start a run for the roster, or for some of it, and return its id."""
        return self._client.start(assignment, students).id

    def look(self, run: str, *, within: float) -> RunDetail:
        """Return a run when it has changed since the call, at the latest after ``within`` seconds."""
        *_, last = self._client.watch(run, within=within)
        return last

    def run(self, run: str) -> RunDescription:
        return self._client.run(run)

    def rows(self, run: str) -> list[Row]:
        """Return the results of the students of a run."""
        return [Row.of(job) for job in self._client.run(run).jobs if job.phase == STUDENTS]

    def log(self, job: str) -> str:
        """Return the output of a job."""
        return self._client.job_log(job).stdout

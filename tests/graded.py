"""A course whose jobs end as a test says: their outcomes are recorded as those of a grader."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import httpx2
from harness import Client, stage, token_of

from broadway.connections import Connections
from broadway.domain.job import Outcome, RetryPolicy
from broadway.domain.originals import OriginalFile, Reported
from broadway.domain.report import Report
from broadway.domain.result import StageResult
from broadway.lifecycle.recording import Recorder
from broadway.messages.events import JobFinished, JobStarted, ids_of

NOW = datetime.now(UTC)
CONTENT = b'{"the": "original"}\x00\xff'
REPORT = Report.model_validate(
    {
        "source": "gradescope",
        "score": "1.5",
        "max": 3,
        "log_visibility": "visible",
        "tests": [
            {"key": "a", "name": {"body": "a"}, "status": "passed", "score": 1, "max": 1},
            {"key": "b", "name": {"body": "secret-name"}, "status": "failed", "visibility": "hidden"},
        ],
    }
)


def results(reported: Reported) -> list[dict[str, Any]]:
    return [StageResult(success=True, state={"ExitCode": 0}, reported=reported).entry()]


REPORTED = Reported(report=REPORT, files=[OriginalFile.of("out/results.json", CONTENT)])


class World:
    """A course with one job for each of its students."""

    def __init__(self, client: Client, course: str, opened: Connections) -> None:
        self.client, self.course, self.opened = client, course, opened
        self.recorder = Recorder(
            opened.store.jobs,
            opened.store.logs,
            opened.store.graders,
            opened.rabbit,
            RetryPolicy(),
            timedelta(minutes=1),
            opened.store.reports,
        )
        self.run = ""
        self.jobs: dict[str, str] = {}
        self.tokens: dict[str, str] = {}

    async def ask(self, path: str, method: str = "GET", *, token: str = "", **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token or token_of(self.course)}"}
        return await self.client.http.request(method, f"/api/v2/courses/{self.course}/{path}", headers=headers, **more)

    async def begin(self, *students: str, stages: Sequence[dict[str, Any]] = ()) -> None:
        await self.client.register(self.course, "mp1", students=list(stages) or [stage("exit", "0")])
        entries = [{"student": name, "env": {"NETID": name}} for name in students or ("ada", "bob")]
        stored = await self.ask("assignments/mp1/roster", "PUT", json={"students": entries})
        assert stored.status_code == 200, stored.text
        made = await self.ask("assignments/mp1/runs", "POST", json={"students": "all"})
        self.run = made.json()["id"]
        jobs = (await self.ask(f"runs/{self.run}/jobs?limit=500")).json()["items"]
        self.jobs = {job["student"]: job["id"] for job in jobs}
        for name in list(self.jobs)[:5]:
            answer = await self.ask("student-tokens", "POST", json={"student": name})
            assert answer.status_code == 201, answer.text
            self.tokens[name] = answer.json()["token"]

    async def start(self, student: str, *, grader: str = "g1") -> dict[str, Any]:
        """Record the start of a student's job, and return the fields of its execution."""
        job = await self.opened.store.jobs.get(self.jobs[student])
        assert job is not None
        execution = {**ids_of(job), "execution_id": token_hex(12), "grader_id": grader, "started_at": NOW}
        await self.recorder.record([JobStarted(**execution)])
        return execution

    async def finish(
        self, student: str, entries: list[dict[str, Any]], *, execution: dict[str, Any] | None = None, **more: Any
    ) -> str:
        """Record an outcome of a student's job, twice, and return the attempt."""
        execution = execution or await self.start(student)
        event = JobFinished(
            **execution,
            finished_at=NOW,
            results=entries,
            **{"outcome": Outcome.SUCCEEDED, **more},
        )
        for _ in range(2):
            await self.recorder.record([event, event])
        return event.execution_id

    async def report(self, student: str, query: str = "", *, token: str = "") -> dict[str, Any]:
        answer = await self.ask(f"jobs/{self.jobs[student]}/report{query}", token=token)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found
